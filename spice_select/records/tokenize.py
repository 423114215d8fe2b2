"""Conversations -> token ids and labels, with everything but the response masked."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spice_select.errors import DatasetError, RowError, UnsupportedProxyError
from spice_select.records.chat_template import ChatFormat, Rendered
from spice_select.records.records import Message, detect_form, to_messages

IGNORED = -100
"""Label of a token that is not learned."""

_CHUNK = 1024  # conversations tokenised at a time: enough to keep every core busy, little enough to stay small


@dataclass(frozen=True)
class Example:
    """One sample as the model sees it.

    Attributes:
        input_ids: Token ids, prompt and response.
        labels: As long as ``input_ids``: the same id where it is learned, -100 elsewhere; unshifted.
    """

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Exclusion:
    """A conversation that gave no example.

    Attributes:
        index: Its place in the input.
        code: ``no-response-tokens``, ``too-long``, ``template-refused`` or ``invalid-unicode``.
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
    """

    examples: list[Example]
    kept: list[int]
    truncated: list[int]
    excluded: list[Exclusion]


def encode(
    conversations: Sequence[Sequence[Message]],
    tokenizer: Any,
    *,
    max_length: int,
    overflow: Literal["truncate", "exclude"] = "truncate",
) -> Encoding:
    """Tokenise conversations with the tokenizer's own chat template; every assistant turn is learned.

    Args:
        conversations: Messages of each sample.
        tokenizer: A fast tokenizer of transformers. Without a chat template `chat.PLAIN_TEMPLATE` is used; without
            an end token none is learned. No padding token is needed.
        max_length: Longest example in tokens; the tokenizer's own ``model_max_length`` counts where it is less.
        overflow: Cut a longer sample at the end, or leave it out.

    Returns:
        The examples and what became of every other conversation; each input index is in ``kept`` or in ``excluded``.

    Raises:
        UnsupportedProxyError: The tokenizer cannot say which characters a token stands for.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedProxyError(
            f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed"
        )
    chat = ChatFormat(tokenizer)
    limit = min(max_length, int(tokenizer.model_max_length))
    result = Encoding([], [], [], [])
    for start in range(0, len(conversations), _CHUNK):
        chunk = conversations[start : start + _CHUNK]
        rendered: list[tuple[int, Rendered]] = []
        for index, conversation in enumerate(chunk, start):
            try:
                text = chat.render(conversation)
                "".join(text.segments).encode()
            except RowError as error:
                result.excluded.append(Exclusion(index, error.code, error.detail))
            except UnicodeEncodeError:
                result.excluded.append(Exclusion(index, "invalid-unicode", "the text holds half of a surrogate pair"))
            else:
                rendered.append((index, text))
        tokenised = _tokenise([text for _, text in rendered], tokenizer)
        for (index, _), (input_ids, labels) in zip(rendered, tokenised, strict=True):
            _place(result, index, input_ids, labels, limit, overflow)
    result.excluded.sort(key=lambda exclusion: exclusion.index)
    return result


def load_examples(records: Iterable[Mapping[str, Any]], tokenizer: Any, max_length: int = 512) -> list[Example]:
    """One example per record, in order, so that an index into the result is an index into the records.

    A record with nothing to learn (no response, or a prompt that fills ``max_length``) becomes an example without
    labels: its gradient is zero, and a warning says which records those are.

    Args:
        records: Alpaca, ShareGPT, messages, prompt/completion, question/answer or text; the form is found by itself.
        tokenizer: A fast tokenizer of transformers.
        max_length: Longest example in tokens; longer ones are cut at the end.

    Raises:
        DatasetError: No known form fits the records.
    """
    rows = list(records)
    found = detect_form(rows)
    if found is None:
        raise DatasetError("the records have none of the known forms", code="dataset-form-unknown")
    form, columns = found
    conversations: list[Sequence[Message]] = []
    places: list[int] = []
    trouble: dict[int, str] = {}
    for place, row in enumerate(rows):
        try:
            conversations.append(to_messages(row, form, columns))
        except RowError as error:
            trouble[place] = error.code
        else:
            places.append(place)
    encoding = encode(conversations, tokenizer, max_length=max_length)
    examples = [Example([], []) for _ in rows]
    for index, example in zip(encoding.kept, encoding.examples, strict=True):
        examples[places[index]] = example
    trouble |= {places[exclusion.index]: exclusion.code for exclusion in encoding.excluded}
    if trouble:
        counts = ", ".join(f"{count} {code}" for code, count in sorted(Counter(trouble.values()).items()))
        first = ", ".join(str(place) for place in sorted(trouble)[:10])
        warnings.warn(f"{len(trouble)} of {len(rows)} records teach nothing ({counts}): {first} ...", stacklevel=2)
    return examples


def _place(result: Encoding, index: int, input_ids: list[int], labels: list[int], limit: int, overflow: str) -> None:
    """Put one tokenised conversation where it belongs."""
    length = len(input_ids)
    if length > limit and overflow == "exclude":
        result.excluded.append(Exclusion(index, "too-long", f"{length} tokens, at most {limit} are allowed"))
        return
    cut_ids, cut_labels = input_ids[:limit], labels[:limit]
    # The first token is never predicted, so a label there teaches nothing.
    if cut_labels[1:].count(IGNORED) == len(cut_labels) - 1:
        why = f"the prompt alone fills the {limit} tokens" if length > limit else "the response has no token"
        result.excluded.append(Exclusion(index, "no-response-tokens", why))
        return
    result.examples.append(Example(cut_ids, cut_labels))
    result.kept.append(index)
    if length > limit:
        result.truncated.append(index)


def _tokenise(rendered: Sequence[Rendered], tokenizer: Any) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and labels of each text."""
    segments = [segment for text in rendered for segment in text.segments]
    if not segments:
        return
    encodings = iter(
        tokenizer(segments, add_special_tokens=False, return_attention_mask=False, verbose=False).encodings
    )
    for text in rendered:
        input_ids: list[int] = []
        labels: list[int] = []
        offset = 0
        for segment in text.segments:
            encoding = next(encodings)
            ids = list(encoding.ids)
            marked = [IGNORED] * len(ids)
            for start, end in text.learned:
                first = _token_at(encoding, max(start - offset, 0), len(segment), len(ids))
                last = _token_at(encoding, max(end - offset, 0), len(segment), len(ids))
                if last < len(ids) and encoding.token_to_chars(last)[0] < end - offset:
                    last += 1  # a token that crosses the end of the range is learned too
                marked[first:last] = ids[first:last]
            input_ids += ids
            labels += marked
            offset += len(segment)
        yield input_ids, labels


def _token_at(encoding: Any, position: int, length: int, tokens: int) -> int:
    """Index of the first token that holds a character at or after ``position``; ``tokens`` when there is none."""
    for character in range(position, length):
        token = encoding.char_to_token(character)
        if token is not None:
            return int(token)
    return tokens
