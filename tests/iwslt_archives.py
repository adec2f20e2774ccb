"""Archives of the shape of IWSLT's, from a few hundred real sentences, and a server for them."""

import http.server
import io
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

# German, French, English: what tokenizers and text rules trip over.
HARD = [
    ("Er lebt in den U.S.A.", "Il vit aux U.S.A.", "He lives in the U.S."),
    ("Das war Plan B.", "C'était le plan B.", "That was plan B."),
    ("Sagt Dr. Müller, z.B. ...", "Dit le Dr. Müller, p. ex. ...", "Says Dr. Müller, e.g. ..."),
    ("„Ja“, sagte sie.", "« Oui », dit-elle.", '"Yes," she said.'),
    ("Es kostet 1.250,50 €!", "Ça coûte 1 250,50 € !", "It's $1,250.50!"),
    ("Q &amp; A &gt; alles", "Q &amp; R &gt; tout", "Q &amp; A &gt; everything"),
    ("Das ist Mikes Auto.", "C’est l’auto d’un ami.", "It’s Mike’s car, isn’t it?"),
    ("[Musik] (Lachen) a|b", "[Musique] (Rires) a|b", "[Music] (Laughter) a|b"),
    ("Die 90er waren's.", "Les années 90, c'est ça.", "The 1990's, that's it."),
    ("ΟΔΟΣ und İzmir, Nr. 5", "ΟΔΟΣ et İzmir, no. 5", "ΟΔΟΣ and İzmir, No. 5"),
    ("Was soll's ... 100%-ig?!", "Et alors ... à 100% ?!", "So what ... 100%-ish?!"),
    ("Tab\there\u00a0\u2028Ende", "Tab\tici\u00a0\u2028fin", "Tab\there\u00a0\u2028end"),
]


def sentences(*sides):
    """Tuples of German (0), French (1), English (2): the hard ones, then strings of Home Assistant
    2026.2.3 (Apache-2.0), which is also the demo's corpus.
    """
    table = Path(__file__).parent / "data" / "home-assistant.tsv"
    rows = table.read_text(encoding="utf-8").rstrip("\n").split("\n")
    return [tuple(row[side] for side in sides) for row in (*HARD, *(r.split("\t") for r in rows))]


def talks(rows, size=30):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def training_file(rows, side, tags):
    """Talks one after the other, each below its tags, of which two hold text."""
    lines = []
    for number, talk in enumerate(talks(rows)):
        for tag in tags.split():
            text = talk[0][side] if tag in ("title", "description") else f"{tag} {number}"
            lines.append(f"<{tag}>{text}</{tag}>")
        lines += [row[side] for row in talk]
    return "".join(f"{line}\n" for line in lines)


def xml_file(rows, side, language):
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<mteval>", f'<srcset trglang="{language}">']
    for number, talk in enumerate(talks(rows)):
        lines += [f'<doc docid="{number}" genre="lectures">', f"<title>{talk[0][side]}</title>"]
        lines += [f'<seg id="{i}"> {row[side]} </seg>' for i, row in enumerate(talk, start=1)]
        lines.append("</doc>")
    return "\n".join([*lines, "</srcset>", "</mteval>"]) + "\n"


def de_en(test_size=20):
    """Files of an archive like IWSLT'14's, by name; ``test_size``: sentences a test set."""
    rows = sentences(0, 2)
    train, tests = rows[:240], rows[240:]
    odd = [("", "Nothing on the other side."), ("Nur hier.", "  ")]
    odd += [("wort " * count, "word " * 175) for count in (176, 175)]
    odd += [("eins zwei drei", "one two"), ("eins zwei drei vier", "one two")]
    tags = "url keywords talkid title description"
    sets = {
        "TED.dev2010": rows[: len(HARD)],
        "TEDX.dev2012": [("", "A segment without a source.")],
        "TED.tst2010": [],
        "TED.tst2011": [("Beide", "Both")],
        "TED.tst2012": [],
    }
    files = {}
    for side, language in enumerate(("de", "en")):
        text = training_file(train[:100] + odd + train[100:], side, tags)
        files[f"train.tags.de-en.{language}"] = text
        for number, (name, first) in enumerate(sets.items()):
            part = first + tests[number * test_size :][:test_size]
            files[f"IWSLT14.{name}.de-en.{language}.xml"] = xml_file(part, side, language)
    return {name: text.encode() for name, text in files.items()}


def fr_en():
    """Files of an archive like IWSLT'17's, by name."""
    rows, tags = sentences(1, 2), "url keywords speaker talkid title description translator"
    files = {}
    for side, language in enumerate(("fr", "en")):
        files[f"train.tags.fr-en.{language}"] = training_file(rows[:260], side, tags)
        files[f"IWSLT17.TED.dev2010.fr-en.{language}.xml"] = xml_file(rows[260:300], side, language)
        test = rows[: len(HARD)] + rows[300:]
        files[f"IWSLT17.TED.tst2015.fr-en.{language}.xml"] = xml_file(test, side, language)
    return {name: text.encode() for name, text in files.items()}


def write_archive(path, files, folder="talks"):
    """Write a .tgz or .zip, by its name, with ``files`` (bytes by name) below ``folder``."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(f"{folder}/{name}", content)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(f"{folder}/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@contextmanager
def serving(content, *answers):
    """Serve ``content`` on 127.0.0.1; yields the address and the list of answers given.

    ``answers``, one a request, the last for all that follow: ``whole``, ``cut`` (the connection
    ends in the middle), ``other`` (other content of the same length), or an HTTP status.
    """
    given = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers[min(len(given), len(answers) - 1)]
            given.append(answer)
            if isinstance(answer, int):
                self.send_error(answer)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            bodies = {"whole": content, "cut": content[: len(content) // 2]}
            self.wfile.write(bodies.get(answer, bytes(len(content))))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # the other side went away
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/talks.tgz", given
        finally:
            server.shutdown()
            thread.join()
