"""Real files of each format, made by the standard library alone: small, and always the same bytes."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage
from typing import Any
from xml.sax.saxutils import escape

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_P = (
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
)
_RELS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'

Block = tuple[str, Any]
"""A part of a document: ("title" | "h1" | "h2" | "p" | "li", text), or ("table", rows), or ("page", "") for a break."""


def packed(parts: Mapping[str, str | bytes], *, stored: Sequence[str] = ()) -> bytes:
    """Make a ZIP file with these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def bomb(name: str) -> bytes:
    """Make a ZIP file of one member that says that it unpacks to 2 GiB."""
    made = bytearray(packed({name: b"x"}))
    place = made.index(b"PK\x01\x02") + 24  # of its size, in the directory at the end
    made[place : place + 4] = (2**31).to_bytes(4, "little")
    return bytes(made)


def packed_spaces(megabytes: int) -> bytes:
    """Make a gzip file that unpacks to so many megabytes, and whose checksum is wrong."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + block * megabytes + packer.flush() + bytes(8)


def _types(*overrides: tuple[str, str]) -> str:
    listed = "".join(f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in overrides)
    return (
        f'{_HEAD}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{listed}</Types>'
    )


def _relations(*targets: tuple[str, str]) -> str:
    listed = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, start=1)
    )
    return f'{_HEAD}<Relationships xmlns="{_RELS}">{listed}</Relationships>'


def _core(title: str) -> str:
    return (
        f'{_HEAD}<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title></cp:coreProperties>'
    )


def docx(blocks: Iterable[Block], *, title: str = "", body: str | None = None) -> bytes:
    """Make a Word document; *body* is put in its place as it is."""

    def paragraph(text: str, style: str = "") -> str:
        properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f'<w:p>{properties}<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'

    parts = []
    for kind, content in blocks:
        if kind == "table":
            rows = "".join(
                f"<w:tr>{''.join(f'<w:tc>{paragraph(str(cell))}</w:tc>' for cell in row)}</w:tr>" for row in content
            )
            parts.append(f"<w:tbl>{rows}</w:tbl>")
        elif kind == "page":
            parts.append('<w:p><w:r><w:br w:type="page"/></w:r></w:p>')
        else:
            style = {"title": "Title", "h1": "Heading1", "h2": "Heading2", "li": "ListParagraph"}.get(kind, "")
            parts.append(paragraph(content, style))
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{name.replace(" ", "").title().replace(" ", "")}">'
        f'<w:name w:val="{name}"/></w:style>'
        for name in ("title", "heading 1", "heading 2")
    )
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    return packed(
        {
            "[Content_Types].xml": _types(
                ("/word/document.xml", f"{main}.document.main+xml"), ("/word/styles.xml", f"{main}.styles+xml")
            ),
            "_rels/.rels": _HEAD
            + f'<Relationships xmlns="{_RELS}">'
            + f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="word/document.xml"/>'
            + '<Relationship Id="rId2" Type="http://schemas.openxmlformats.org/package/2006/relationships/metadata/'
            + 'core-properties" Target="docProps/core.xml"/></Relationships>',
            "docProps/core.xml": _core(title),
            "word/_rels/document.xml.rels": _relations(("styles", "styles.xml")),
            "word/styles.xml": f"{_HEAD}<w:styles {_W}>{styles}</w:styles>",
            "word/document.xml": f"{_HEAD}<w:document {_W}><w:body>{body or ''.join(parts)}</w:body></w:document>",
        }
    )


def pptx(slides: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """Make a presentation of slides, each a title and its lines."""

    def shape(number: int, kind: str, lines: Sequence[str]) -> str:
        text = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in lines)
        return (
            f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="s{number}"/><p:cNvSpPr/>'
            f'<p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:spPr/>'
            f"<p:txBody><a:bodyPr/>{text}</p:txBody></p:sp>"
        )

    main = "application/vnd.openxmlformats-officedocument.presentationml"
    parts: dict[str, str | bytes] = {}
    overrides = [("/ppt/presentation.xml", f"{main}.presentation.main+xml")]
    for number, (title, lines) in enumerate(slides, start=1):
        name = f"ppt/slides/slide{number}.xml"
        shapes = shape(2, "title", [title]) + shape(3, "body", lines)
        parts[name] = (
            f"{_HEAD}<p:sld {_P}><p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id='1' name=''/><p:cNvGrpSpPr/><p:nvPr/>"
            f"</p:nvGrpSpPr><p:grpSpPr/>{shapes}</p:spTree></p:cSld></p:sld>"
        )
        overrides.append((f"/{name}", f"{main}.slide+xml"))
    listed = "".join(f'<p:sldId id="{255 + n}" r:id="rId{n}"/>' for n in range(1, len(slides) + 1))
    return packed(
        {
            "[Content_Types].xml": _types(*overrides),
            "_rels/.rels": _relations(("officeDocument", "ppt/presentation.xml")),
            "ppt/_rels/presentation.xml.rels": _relations(
                *(("slide", f"slides/slide{n}.xml") for n in range(1, len(slides) + 1))
            ),
            "ppt/presentation.xml": f"{_HEAD}<p:presentation {_P} {_R}><p:sldIdLst>{listed}</p:sldIdLst>"
            "</p:presentation>",
            **parts,
        }
    )


def xlsx(sheets: Mapping[str, Sequence[Sequence[Any]]], *, cells: str = "") -> bytes:
    """Make a workbook; strings are shared ones, numbers and booleans typed. *cells* end each sheet as they are."""
    strings: dict[str, int] = {}

    def cell(column: int, row: int, value: Any) -> str:
        place = f"{chr(65 + column)}{row}"
        if value is None:
            return ""
        if isinstance(value, bool):
            return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
        if isinstance(value, (int, float)):
            return f'<c r="{place}"><v>{value}</v></c>'
        return f'<c r="{place}" t="s"><v>{strings.setdefault(str(value), len(strings))}</v></c>'

    main = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts: dict[str, str | bytes] = {}
    overrides = [("/xl/workbook.xml", f"{main}.sheet.main+xml"), ("/xl/sharedStrings.xml", f"{main}.sharedStrings+xml")]
    for number, rows in enumerate(sheets.values(), start=1):
        content = "".join(
            f'<row r="{r}">{"".join(cell(c, r, value) for c, value in enumerate(row))}</row>'
            for r, row in enumerate(rows, start=1)
        )
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f"{_HEAD}<worksheet {_S}><sheetData>{content}{cells}</sheetData></worksheet>"
        )
        overrides.append((f"/xl/worksheets/sheet{number}.xml", f"{main}.worksheet+xml"))
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"/>' for n, name in enumerate(sheets, start=1)
    )
    shared = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
    return packed(
        {
            "[Content_Types].xml": _types(*overrides),
            "_rels/.rels": _relations(("officeDocument", "xl/workbook.xml")),
            "xl/_rels/workbook.xml.rels": _relations(
                *(("worksheet", f"worksheets/sheet{n}.xml") for n in range(1, len(sheets) + 1)),
                ("sharedStrings", "sharedStrings.xml"),
            ),
            "xl/workbook.xml": f"{_HEAD}<workbook {_S} {_R}><sheets>{listed}</sheets></workbook>",
            "xl/sharedStrings.xml": f"{_HEAD}<sst {_S}>{shared}</sst>",
            **parts,
        }
    )


def odt(blocks: Iterable[Block], *, title: str = "") -> bytes:
    """Make an OpenDocument text."""
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "text", "table", "meta")
    )
    parts = []
    for kind, content in blocks:
        if kind in ("title", "h1", "h2"):
            level = {"title": 1, "h1": 1, "h2": 2}[kind]
            parts.append(f'<text:h text:outline-level="{level}">{escape(content)}</text:h>')
        elif kind == "table":
            rows = "".join(
                "<table:table-row>"
                + "".join(f"<table:table-cell><text:p>{escape(str(cell))}</text:p></table:table-cell>" for cell in row)
                + "</table:table-row>"
                for row in content
            )
            parts.append(f"<table:table>{rows}</table:table>")
        elif kind == "li":
            parts.append(f"<text:list><text:list-item><text:p>{escape(content)}</text:p></text:list-item></text:list>")
        elif kind != "page":
            parts.append(f"<text:p>{escape(content)}</text:p>")
    kind = "application/vnd.oasis.opendocument.text"
    return packed(
        {
            "mimetype": kind,
            "META-INF/manifest.xml": f'{_HEAD}<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
            f'<m:file-entry m:full-path="/" m:media-type="{kind}"/>'
            '<m:file-entry m:full-path="content.xml" m:media-type="text/xml"/></m:manifest>',
            "meta.xml": f'{_HEAD}<office:document-meta {spaces} xmlns:dc="http://purl.org/dc/elements/1.1/"><office:meta>'
            f"<dc:title>{escape(title)}</dc:title></office:meta></office:document-meta>",
            "content.xml": f"{_HEAD}<office:document-content {spaces}><office:body><office:text>{''.join(parts)}"
            "</office:text></office:body></office:document-content>",
        },
        stored=["mimetype"],
    )


def epub(chapters: Sequence[tuple[str, str]], *, title: str = "") -> bytes:
    """Make a book of chapters, each a name and its XHTML body."""
    items = "".join(
        f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(1, len(chapters) + 1)
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(1, len(chapters) + 1))
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'{_HEAD}<container version="1.0" '
            'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="OEBPS/book.opf" '
            'media-type="application/oebps-package+xml"/></rootfiles></container>',
            "OEBPS/book.opf": f'{_HEAD}<package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
            'unique-identifier="i"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f'<dc:identifier id="i">x</dc:identifier><dc:title>{escape(title)}</dc:title>'
            f"<dc:language>en</dc:language></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>",
            **{
                f"OEBPS/c{n}.xhtml": f'{_HEAD}<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{escape(name)}'
                f"</title></head><body>{body}</body></html>"
                for n, (name, body) in enumerate(chapters, start=1)
            },
        },
        stored=["mimetype"],
    )


def pdf(pages: Sequence[Sequence[str]], *, title: str = "", outline: Sequence[tuple[str, int]] = ()) -> bytes:
    """Make a PDF of pages, each of lines, with an outline of (heading, page from 0)."""
    objects: list[bytes] = [
        b"",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    kids = []
    for lines in pages:
        text = b"BT /F1 12 Tf 72 770 Td 16 TL\n"
        for line in lines:
            raw = line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
            text += b"(" + raw + b") Tj T*\n"
        stream = zlib.compress(text + b"ET")
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % len(objects)
        )
        kids.append(len(objects))
    catalog = b"<< /Type /Catalog /Pages 2 0 R"
    if outline:
        first = len(objects) + 2
        last = first + len(outline) - 1
        objects.append(b"<< /Type /Outlines /First %d 0 R /Last %d 0 R /Count %d >>" % (first, last, len(outline)))
        catalog += b" /Outlines %d 0 R" % len(objects)
        for at, (heading, page) in enumerate(outline):
            links = b"/Next %d 0 R " % (first + at + 1) if at + 1 < len(outline) else b""
            links += b"/Prev %d 0 R " % (first + at - 1) if at else b""
            objects.append(
                b"<< /Title (%s) /Parent %d 0 R %s/Dest [%d 0 R /Fit] >>"
                % (heading.encode("cp1252"), first - 1, links, kids[page])
            )
    objects[0] = catalog + b" >>"
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(b"%d 0 R" % kid for kid in kids), len(kids))
    trailer = b"/Root 1 0 R"
    if title:
        objects.append(b"<< /Title (%s) >>" % title.encode("cp1252"))
        trailer += b" /Info %d 0 R" % len(objects)
    return pdf_of(objects, trailer)


def pdf_of(objects: Sequence[bytes], trailer: bytes) -> bytes:
    """Make a PDF of its objects, numbered from 1."""
    out = io.BytesIO()
    out.write(b"%PDF-1.5\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer << /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, table))
    return out.getvalue()


def eml(subject: str, text: str, *, html: str = "", attached: Mapping[str, bytes] | None = None) -> bytes:
    """Make an e-mail."""
    message = EmailMessage()
    message["From"] = "Ada <ada@example.org>"
    message["To"] = "Bo <bo@example.org>"
    message["Date"] = "Mon, 04 May 2026 03:02:01 +0200"
    message["Subject"] = subject
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    for name, content in (attached or {}).items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    boundaries = iter(f"made{number}" for number in range(10))
    for part in message.walk():
        if part.is_multipart():
            part.set_boundary(next(boundaries))  # else a random one
    return message.as_bytes()


def ipynb(cells: Sequence[tuple[str, str]], *, outputs: Sequence[Any] = ()) -> bytes:
    """Make a notebook of ("markdown" | "code" | "raw", source) cells; each code cell has these outputs."""
    made = [
        {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
        | ({"execution_count": 1, "outputs": list(outputs)} if kind == "code" else {})
        for kind, source in cells
    ]
    language = {"kernelspec": {"language": "python", "name": "python3", "display_name": "Python 3"}}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": language, "cells": made}).encode()
