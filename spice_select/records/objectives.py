"""What training on a row would minimise, and which rows an objective is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spice_select.config import Objective
from spice_select.errors import ConfigError, RowError
from spice_select.records.conversation import Conversation, Message
from spice_select.records.formats import ColumnRole, Form


def possible_objectives(form: Form, columns: Mapping[ColumnRole, str]) -> tuple[Objective, ...]:
    """The objectives that a data set can be measured with.

    Args:
        form: Its form.
        columns: Role to column.
    """
    if form != "preference":
        return ("sft",)
    return ("sft_chosen", "dpo") if "rejected" in columns else ("sft_chosen",)


def check_objective(
    objective: Objective,
    form: Form,
    columns: Mapping[ColumnRole, str],
    *,
    what: str = "the data set",
    pointer: str = "#/gradients/objective",
) -> None:
    """Refuse an objective that a data set is not for.

    Args:
        objective: What training would minimise.
        form: Form of the data set.
        columns: Role to column.
        what: What holds the rows, for the message.
        pointer: Where the request names what does not fit.

    Raises:
        ConfigError: It is not one of those that are possible, which are named.
    """
    possible = possible_objectives(form, columns)
    if objective in possible:
        return
    if form != "preference":
        holds = "no preference data"
    else:
        holds = "preference pairs" if "rejected" in columns else "single answers with a judgement, no pairs"
    raise ConfigError(
        f"{what} holds {holds}: gradients.objective can be {' or '.join(possible)}, not {objective}", pointer=pointer
    )


def warmup_objective(objective: Objective) -> Objective:
    """What a warm-up minimises: before ``dpo`` the model learns the chosen answers, as is usual.

    Args:
        objective: That of the gradients.
    """
    return "sft_chosen" if objective == "dpo" else objective


def training_objective(conversations: Sequence[Sequence[Message]]) -> Objective:
    """What a training of an evaluation minimises: the loss of the answers, of preference data of the chosen ones.

    Args:
        conversations: What is trained on.
    """
    judged = any(isinstance(item, Conversation) and item.is_preference for item in conversations)
    return "sft_chosen" if judged else "sft"


def sides_of(conversation: Sequence[Message], objective: Objective) -> list[Sequence[Message]]:
    """What is rendered of a row: the conversation whose answers are learned; for ``dpo`` one for each answer of a pair.

    Args:
        conversation: Of a preference pair the chosen answer is learned, and nothing before it.
        objective: What training would minimise.

    Raises:
        RowError: ``wrong-objective``, or ``not-desirable``: the one answer there is was judged bad.
    """
    if not isinstance(conversation, Conversation) or not conversation.is_preference:
        if objective != "sft":
            raise RowError(f"the row holds no judgement, which {objective} needs", code="wrong-objective")
        return [conversation]
    start = conversation.completion or 0
    if objective == "dpo" and conversation.rejected is not None:
        prompt = [_unflagged(message) for message in conversation[:start]]
        answers = (conversation[start:], conversation.rejected)
        return [
            Conversation([*prompt, *map(_unflagged, answer)], tools=conversation.tools, completion=start)
            for answer in answers
        ]
    if objective != "sft_chosen":
        raise RowError(f"the row holds a judgement that {objective} has no use for", code="wrong-objective")
    if conversation.desirable is False:
        raise RowError("the answer was judged bad, so it is not learned", code="not-desirable")
    turns: list[Message] = [
        {**message, "weight": 0.0} if place < start and message["role"] == "assistant" else message
        for place, message in enumerate(conversation)
    ]
    return [Conversation(turns, tools=conversation.tools)]


def _unflagged(message: Message) -> Message:
    """The message as a DPO trainer takes it, which knows no flags."""
    made: Message = {**message}
    made.pop("weight", None)
    made.pop("part_weights", None)
    return made
