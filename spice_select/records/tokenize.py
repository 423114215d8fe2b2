"""Conversations -> token ids and labels, with everything but the response masked."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from spice_select.config import Objective
from spice_select.errors import DatasetError, RowError, UnsupportedProxyError
from spice_select.records.chat_template import DEFAULT_DATE, ChatFormat, Rendered
from spice_select.records.objectives import check_objective, sides_of
from spice_select.records.reading import Reading
from spice_select.records.records import Message, detect_form

IGNORED = -100
"""Label of a token that is not learned."""

_CHUNK = 1024  # conversations tokenised at a time: enough to keep every core busy, little enough to stay small


@dataclass(frozen=True)
class Example:
    """One sample as the model sees it.

    Attributes:
        input_ids: Token ids, prompt and response.
        labels: As long as ``input_ids``: the same id where it is learned, -100 elsewhere; unshifted.
        weights: As long as ``labels``: factor of the loss of each label; None where all are 1.
        split: Of a preference pair the tokens of the sequence with the chosen answer; the one with the rejected answer
            follows it. None for a single sequence.
    """

    input_ids: list[int]
    labels: list[int]
    weights: list[float] | None = None
    split: int | None = None

    def sequences(self) -> list[Example]:
        """What the model sees one by one: the example itself; of a pair both sides, the rejected one weighing -1."""
        if self.split is None:
            return [self]
        rejected = self.input_ids[self.split :]
        return [
            Example(self.input_ids[: self.split], self.labels[: self.split], self.weights),
            Example(rejected, self.labels[self.split :], [-1.0] * len(rejected)),
        ]

    @property
    def num_learned(self) -> int:
        """Labels that count: the first token of a sequence is predicted by nothing."""
        return sum(len(side.labels[1:]) - side.labels[1:].count(IGNORED) for side in self.sequences())


@dataclass(frozen=True)
class Exclusion:
    """A conversation that gave no example.

    Attributes:
        index: Its place in the input.
        code: ``no-response-tokens``, ``too-long``, ``template-refused``, ``not-desirable``, ``nothing-to-learn``,
            ``wrong-objective`` or ``invalid-unicode``.
        detail: One sentence for a person.
    """

    index: int
    code: str
    detail: str


@dataclass(frozen=True)
class Encoding:
    """What became of a list of conversations.

    Attributes:
        examples: The usable ones, in input order.
        kept: Input index of each example; ascending.
        truncated: Input indices of the examples that were cut at the maximal length.
        excluded: All the others, with the reason.
        notes: What a person should know about usable ones: a code of ``encoding_notes`` and how many it is about.
    """

    examples: list[Example]
    kept: list[int]
    truncated: list[int]
    excluded: list[Exclusion]
    notes: Counter[str] = field(default_factory=Counter)


def encode(
    conversations: Sequence[Sequence[Message]],
    tokenizer: Any,
    *,
    max_length: int,
    overflow: Literal["truncate", "exclude"] = "truncate",
    today: str = DEFAULT_DATE,
    objective: Objective = "sft",
) -> Encoding:
    """Tokenise conversations with the tokenizer's own chat template; every assistant turn is learned.

    Of a prompt and a completion that are lists of messages, all that comes behind the prompt is learned, as TRL does.
    With ``sft_chosen`` the chosen answer of a pair is learned, or an answer that was judged good; with ``dpo`` both
    answers of a pair are labelled, from where the tokens of either leave those of the prompt, as TRL does.

    Args:
        conversations: Messages of each sample.
        tokenizer: A fast tokenizer of transformers. Without a chat template `chat.PLAIN_TEMPLATE` is used; without
            an end token none is learned. No padding token is needed. Or an object that does all this elsewhere, by
            ``encode_conversations`` with the arguments of this function.
        max_length: Longest example in tokens; the tokenizer's own ``model_max_length`` counts where it is less.
        overflow: Cut a longer sample at the end, or leave it out.
        today: What a template that asks for the date is told, YYYY-MM-DD.
        objective: What training would minimise; a row that it is not for is excluded.

    Returns:
        The examples and what became of every other conversation; each input index is in ``kept`` or in ``excluded``.

    Raises:
        UnsupportedProxyError: The tokenizer cannot say which characters a token stands for.
    """
    elsewhere = getattr(tokenizer, "encode_conversations", None)
    if elsewhere is not None:
        encoded: Encoding = elsewhere(
            conversations, max_length=max_length, overflow=overflow, today=today, objective=objective
        )
        return encoded
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedProxyError(
            f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed"
        )
    chat = ChatFormat(tokenizer, today)
    limit = min(max_length, int(tokenizer.model_max_length))
    result = Encoding([], [], [], [])
    for start in range(0, len(conversations), _CHUNK):
        chunk = conversations[start : start + _CHUNK]
        rendered: list[tuple[int, list[Rendered]]] = []
        for index, conversation in enumerate(chunk, start):
            try:
                texts = [chat.render(side) for side in sides_of(conversation, objective)]
                "".join(segment for text in texts for segment in text.segments).encode()
            except RowError as error:
                result.excluded.append(Exclusion(index, error.code, error.detail))
            except UnicodeEncodeError:
                result.excluded.append(Exclusion(index, "invalid-unicode", "the text holds half of a surrogate pair"))
            else:
                rendered.append((index, texts))
        tokenised = _tokenise([text for _, texts in rendered for text in texts], tokenizer)
        for index, texts in rendered:
            _place(result, index, [next(tokenised) for _ in texts], limit, overflow)
            result.notes.update({note for text in texts for note in text.notes})
    result.excluded.sort(key=lambda exclusion: exclusion.index)
    return result


def load_examples(
    records: Iterable[Mapping[str, Any]], tokenizer: Any, max_length: int = 512, *, objective: Objective = "sft"
) -> list[Example]:
    """One example per record, in order, so that an index into the result is an index into the records.

    A record with nothing to learn (no response, or a prompt that fills ``max_length``) becomes an example without
    labels: its gradient is zero, and a warning says which records those are.

    Args:
        records: Alpaca, ShareGPT, messages, prompt/completion, question/answer, text or preference data; the form is
            found by itself.
        tokenizer: A fast tokenizer of transformers.
        max_length: Longest example in tokens; longer ones are cut at the end.
        objective: What training would minimise; ``sft_chosen`` and ``dpo`` are for preference data.

    Raises:
        ConfigError: The objective is not for such records.
        DatasetError: No known form fits the records, or two do.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by check_objective()
    rows = list(records)
    found = detect_form(rows)
    if found is None:
        raise DatasetError("the records have none of the known forms", code="dataset-form-unknown")
    reading = Reading(*found)
    check_objective(objective, reading.form, reading.columns, pointer="#/objective")
    conversations: list[Sequence[Message]] = []
    places: list[int] = []
    trouble: dict[int, str] = {}
    for place, row in enumerate(rows):
        try:
            conversations.append(reading.read(place, row))
        except RowError as error:
            trouble[place] = error.code
        else:
            places.append(place)
    reading.check()
    encoding = encode(conversations, tokenizer, max_length=max_length, objective=objective)
    examples = [Example([], []) for _ in rows]
    for index, example in zip(encoding.kept, encoding.examples, strict=True):
        examples[places[index]] = example
    trouble |= {places[exclusion.index]: exclusion.code for exclusion in encoding.excluded}
    if trouble:
        counts = ", ".join(f"{count} {code}" for code, count in sorted(Counter(trouble.values()).items()))
        first = ", ".join(str(place) for place in sorted(trouble)[:10])
        warnings.warn(f"{len(trouble)} of {len(rows)} records teach nothing ({counts}): {first} ...", stacklevel=2)
    return examples


def _place(result: Encoding, index: int, sides: list[Example], limit: int, overflow: str) -> None:
    """Put one tokenised conversation where it belongs."""
    length = max(len(side.input_ids) for side in sides)
    if length > limit and overflow == "exclude":
        result.excluded.append(Exclusion(index, "too-long", f"{length} tokens, at most {limit} are allowed"))
        return
    cut = [_cut(side, limit) for side in sides]
    example = cut[0] if len(cut) == 1 else _pair(cut[0], cut[1])
    if not example.num_learned:
        why = f"the prompt alone fills the {limit} tokens" if length > limit else "the response has no token"
        result.excluded.append(Exclusion(index, "no-response-tokens", why))
    elif len(cut) == 2 and cut[0].input_ids == cut[1].input_ids:
        why = f"the chosen and the rejected answer are equal in the first {limit} tokens"
        result.excluded.append(Exclusion(index, "nothing-to-learn", why))
    else:
        result.examples.append(example)
        result.kept.append(index)
        if length > limit:
            result.truncated.append(index)


def _cut(example: Example, limit: int) -> Example:
    weights = None if example.weights is None else example.weights[:limit]
    return Example(example.input_ids[:limit], example.labels[:limit], weights)


def _pair(chosen: Example, rejected: Example) -> Example:
    """Both sides with a label on all that follows the prompt, which ends where the first of them leaves it."""
    start = min(side.labels.count(IGNORED) for side in (chosen, rejected))
    labels = [IGNORED] * start + chosen.input_ids[start:] + [IGNORED] * start + rejected.input_ids[start:]
    return Example(chosen.input_ids + rejected.input_ids, labels, split=len(chosen.input_ids))


def _tokenise(rendered: Sequence[Rendered], tokenizer: Any) -> Iterator[Example]:
    """Token ids and labels of each text."""
    segments = [segment for text in rendered for segment in (*text.segments, *(text.prompt or ()))]
    if not segments:
        return
    encodings = iter(
        tokenizer(segments, add_special_tokens=False, return_attention_mask=False, verbose=False).encodings
    )
    for text in rendered:
        yield _example(text, encodings)


def _example(text: Rendered, encodings: Iterator[Any]) -> Example:
    input_ids: list[int] = []
    labels: list[int] = []
    weights: list[float] = []
    offset = 0
    for segment in text.segments:
        encoding = next(encodings)
        ids = list(encoding.ids)
        marked, weighed = [IGNORED] * len(ids), [1.0] * len(ids)
        for start, end, weight in text.learned:
            first = _token_at(encoding, max(start - offset, 0), len(segment), len(ids))
            last = _token_at(encoding, max(end - offset, 0), len(segment), len(ids))
            if last < len(ids) and encoding.token_to_chars(last)[0] < end - offset:
                last += 1  # a token that crosses the end of the range is learned too
            marked[first:last] = ids[first:last]
            if weight != 1:
                weighed[first:last] = [weight] * (last - first)
        input_ids += ids
        labels += marked
        weights += weighed
        offset += len(segment)
    if text.prompt is not None:
        prompt = [token for _ in text.prompt for token in next(encodings).ids]
        shorter = min(len(input_ids), len(prompt))
        start = next((place for place in range(shorter) if input_ids[place] != prompt[place]), shorter)
        labels = [IGNORED] * start + input_ids[start:]
    return Example(input_ids, labels, None if all(weight == 1 for weight in weights) else weights)


def _token_at(encoding: Any, position: int, length: int, tokens: int) -> int:
    """Index of the first token that holds a character at or after ``position``; ``tokens`` when there is none."""
    for character in range(position, length):
        token = encoding.char_to_token(character)
        if token is not None:
            return int(token)
    return tokens
