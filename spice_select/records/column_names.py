"""The names that columns are known by: which forms there are, the roles each reads and the usual names of those."""

from __future__ import annotations

from typing import Final, Literal, get_args

Form = Literal["preference", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text"]
ColumnRole = Literal[
    "prompt", "input", "context", "history", "response", "reasoning", "system", "messages", "tools", "text",
    "chosen", "rejected", "label",
]  # fmt: skip

FORMS: Final[tuple[Form, ...]] = get_args(Form)
"""Every form, in the order of preference."""

Columns = dict[ColumnRole, str]

CONVERSATION: Final = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
_SYSTEM: Final = ("system", "system_prompt", "system_message")
_TOOLS: Final = ("tools", "functions")
_REASONING: Final = (
    "reasoning_content", "reasoning", "thinking", "thought", "complex_cot", "cot", "chain_of_thought", "think",
)  # fmt: skip
_CONTEXT: Final = ("context", "passage", "paragraph", "document", "background", "knowledge", "documents", "contexts")
_HISTORY: Final = ("history", "chat_history", "conversation_history")
ANSWERS: Final = (
    "output", "outputs", "response", "responses", "completion", "answer", "answers", "target", "targets", "solution",
    "assistant", "bot", "gpt", "reply",
)  # fmt: skip
ASKED: Final = ("instruction", "prompt", "question", "query", "problem")
"""Names of a prompt that stand for nothing else."""
LABEL: Final = ("label", "kto_tag", "desirable")
_BESIDE: Final[dict[ColumnRole, tuple[str, ...]]] = {
    "input": ("input", "inputs", *_CONTEXT),
    "context": _CONTEXT,
    "history": _HISTORY,
    "reasoning": _REASONING,
    "system": _SYSTEM,
    "tools": _TOOLS,
}


def _first(*names: str) -> tuple[str, ...]:
    return (*names, *(name for name in ANSWERS if name not in names))


COLUMNS: Final[dict[Form, dict[ColumnRole, tuple[str, ...]]]] = {
    "preference": {
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "messages": CONVERSATION,
        "response": _first("completion", "response", "output"),
        "chosen": ("chosen", "chosen_response", "response_chosen", "chosen_messages"),
        "rejected": ("rejected", "rejected_response", "response_rejected", "rejected_messages"),
        "label": LABEL,
        **_BESIDE,
    },
    "messages": {"messages": CONVERSATION, "reasoning": _REASONING, "system": _SYSTEM, "tools": _TOOLS},
    "sharegpt": {"messages": CONVERSATION, "reasoning": _REASONING, "system": _SYSTEM, "tools": _TOOLS},
    "alpaca": {"prompt": ("instruction",), "response": _first("output", "response", "completion"), **_BESIDE},
    "prompt_completion": {"prompt": ("prompt",), "response": _first("completion", "response", "output"), **_BESIDE},
    "question_answer": {
        "prompt": ("question", "query", "problem", "user", "human", "input", "inputs", "source"),
        "response": _first("answer", "response", "output", "solution"),
        **_BESIDE,
    },
    "text": {"text": ("text", "content")},
}
OPTIONAL: Final[frozenset[ColumnRole]] = frozenset(_BESIDE)
WEAK: Final[dict[str, tuple[str, ...]]] = {
    "user": ("assistant", "bot", "gpt", "response", "answer"),
    "human": ("assistant", "bot", "gpt", "response", "answer"),
    "input": ("output", "outputs", "target", "targets", "response", "completion", "answer"),
    "inputs": ("output", "outputs", "target", "targets", "response", "completion", "answer"),
    "source": ("target", "targets"),
}
"""Names that are a prompt only beside one of these: alone they are often something else."""
BESIDE_TEXT: Final[dict[str, ColumnRole]] = {
    **dict.fromkeys(("prompt", "title", "question", "instruction", "query", "headline", "input", "problem"), "prompt"),
    **dict.fromkeys(("summary", "highlights", "abstract", "translation", "tldr", *ANSWERS), "response"),
}
"""Columns that make a ``text`` column ambiguous, and what they would be."""
SETS: Final[dict[Form, tuple[frozenset[ColumnRole], ...]]] = {
    "preference": (
        frozenset({"chosen", "rejected"}),
        frozenset({"messages", "rejected"}),
        frozenset({"prompt", "response", "rejected"}),
        frozenset({"messages", "label"}),
        frozenset({"prompt", "response", "label"}),
    ),
    **{
        form: (frozenset(role for role in roles if role not in OPTIONAL),)
        for form, roles in COLUMNS.items()
        if form != "preference"
    },
}
"""Roles that a record has to have; of ``preference`` one of these sets."""


def roles_of(form: Form) -> tuple[ColumnRole, ...]:
    """The column roles a form reads."""
    return tuple(COLUMNS[form])


def required_roles(form: Form) -> tuple[ColumnRole, ...]:
    """The column roles a form cannot do without; of ``preference`` those of pairs."""
    needed = SETS[form][0]
    return tuple(role for role in COLUMNS[form] if role in needed)


def usual_columns(form: Form, role: ColumnRole) -> tuple[str, ...]:
    """The column names that a role of a form is looked for under."""
    return COLUMNS[form][role]
