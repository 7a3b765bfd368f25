"""Files of text as streams of bytes: decompressed by what they hold, checked, and never wholly in memory."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from .errors import DataError

#: Bytes read at a time.
CHUNK = 1 << 18
#: The longest line or segment, in characters: longer ones are no sentences, and would not fit into memory.
LONGEST = 1 << 20

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"Rar!": "rar",
    b"7z\xbc\xaf": "7z",
}
#: Endings of files that say by themselves what they are.
READABLE = (".tmx", ".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet")
_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException)


class _Watched(io.RawIOBase):
    """A file that shows each piece read from it to a function: for checksums and progress."""

    def __init__(self, raw: BinaryIO, watch: Callable[[bytes], object]) -> None:
        self._raw, self._watch = raw, watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        data = self._raw.read(len(buffer))
        self._watch(data)
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_stream(path: Path, watch: Callable[[bytes], object] | None = None) -> Iterator[BinaryIO]:
    """Opens a plain, gzip, xz, zstd or bzip2 file, told apart by its first bytes, for reading what is in it.

    Args:
        path: The file.
        watch: Called with every piece of the file itself, compressed as it is.

    Raises:
        DataError: If the file is missing, unreadable, an archive of several files, or damaged; errors of the block
            are translated too.
    """
    try:
        with path.open("rb", buffering=0) as raw:
            start = raw.read(8)
            raw.seek(0)
            kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "plain")
            if kind in ("zip", "rar", "7z"):
                raise DataError(f"{path} is a {kind} archive: unpack it and give the files in it.")
            watched = _Watched(raw, watch) if watch else raw
            with _decompressed(io.BufferedReader(watched, CHUNK), kind) as stream:
                yield stream
    except _BROKEN as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
        raise DataError(
            f"{path} is truncated or damaged ({error}). Download or copy it again; it has {path.stat().st_size} bytes."
        ) from error


#: Up to the encoding that an XML declaration names.
_DECLARED = re.compile(r"""\A(\ufeff?\s*<\?xml[^>]*? )encoding=["'][^"'<>]*["']""")


def unpack(files: Sequence[str], languages: Sequence[str], folder: Path) -> list[str]:
    """Files as they are, zip archives as what they hold of two languages, and UTF-16 as UTF-8.

    Args:
        files: Paths.
        languages: Tags of the target and of the foreign side; of line-aligned files the names end in them (OPUS).
        folder: Where new files go.

    Raises:
        DataError: If an archive is damaged, or holds no such files.
    """
    found: list[str] = []
    for path in map(Path, files):
        start = path.open("rb").read(4) if path.is_file() else b""
        if start == b"PK\x03\x04":
            found += _of_archive(path, languages, folder)
        elif start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            found.append(str(folder / path.name))
            try:
                with (
                    path.open(encoding="utf-16", newline="") as text,
                    open(found[-1], "w", encoding="utf-8", newline="") as out,
                ):
                    out.write(_DECLARED.sub(r"\1", text.read(200)))  # XML would name one that it is not in now
                    shutil.copyfileobj(text, out, CHUNK)
            except UnicodeError as error:
                raise DataError(f"{path} begins as UTF-16 and is not: {error}. Save it as UTF-8.") from error
        else:
            found.append(str(path))
    return found


def _of_archive(path: Path, languages: Sequence[str], folder: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            ends = [language.replace("_", "-").partition("-")[0].lower() for language in languages]
            sides = [[name for name in names if name.lower().endswith(f".{end}")] for end in ends]
            chosen = [name for pair in zip(*sides, strict=False) for name in pair]
            if not chosen or len(sides[0]) != len(sides[1]):
                chosen = [name for name in names if name.lower().endswith(READABLE)]
            if not chosen:
                raise DataError(
                    f"{path} holds {', '.join(names[:8])}: no files of {' and '.join(f'.{end}' for end in ends)}, and "
                    "no table or TMX. Unpack it and give the two files, the target side first."
                )
            return [archive.extract(name, folder) for name in chosen]
    except (zipfile.BadZipFile, *_BROKEN) as error:
        raise DataError(f"{path} is truncated or damaged ({error}). Download or copy it again.") from error


def _decompressed(raw: io.BufferedReader, kind: str) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if kind == "xz":
        return lzma.LZMAFile(raw)
    if kind == "bzip2":
        return bz2.BZ2File(raw)
    if kind == "zstd":
        return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"), CHUNK)
    return raw


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """The stream in pieces of `CHUNK` bytes."""
    while data := stream.read(CHUNK):
        yield data


def check_text(path: Path, watch: Callable[[bytes], object]) -> int:
    """Reads a file of lines once, quickly, to find what is wrong with it before any work is done on it.

    Returns:
        How many lines it has.

    Raises:
        DataError: As [`open_stream`], or if it is empty, not UTF-8, or holds NUL; the line is named.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    lines, last = 0, b"\n"
    with open_stream(path, watch) as stream:
        for data in chunks(stream):
            if (place := data.find(b"\0")) >= 0:
                line = lines + data.count(b"\n", 0, place) + 1
                raise DataError(f"{path}, line {line}: NUL. The file is binary or UTF-16; convert it to UTF-8.")
            try:
                decode(data)
            except UnicodeDecodeError as error:
                # What the decoder kept of the piece before is in front of `data`, and holds no line end.
                behind = error.object[error.start :]
                line = lines + data.count(b"\n") - behind.count(b"\n") + 1
                raise DataError(
                    f"{path}, line {line}: byte 0x{behind[0]:02x} is not UTF-8 ({error.reason}). "
                    "Convert the file to UTF-8."
                ) from error
            lines, last = lines + data.count(b"\n"), data[-1:]
    if last == b"\n" and lines == 0:
        raise DataError(f"{path} is empty.")
    return lines + (last != b"\n")


def read_lines(path: Path, watch: Callable[[bytes], object]) -> Iterator[str]:
    r"""The lines of a file that [`check_text`] has let through, without `\n` or `\r\n`.

    Raises:
        DataError: If a line is longer than `LONGEST`.
    """
    with open_stream(path, watch) as stream:
        number = 0
        while line := stream.readline(4 * LONGEST):
            number += 1
            if len(line) == 4 * LONGEST:
                raise DataError(f"{path}, line {number} has more than {LONGEST} characters: it is no sentence.")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
