"""Makes data/advisories.tsv, what tests/project/supply_chain.rs reads, from a folder that holds the RustSec advisory database.

    python3 tests/python/advisories.py FOLDER YYYY-MM-DD

The day is that of the copy: the test says how old it is. Advisories that were withdrawn are left out.
"""

import pathlib
import sys
import tomllib

COLUMNS = ["id", "package", "kind", "patched", "unaffected", "title"]


def rows(folder):
    for path in sorted(pathlib.Path(folder, "crates").glob("*/*.md")):
        _, front, text = path.read_text(encoding="utf-8").split("```", 2)
        fields = tomllib.loads(front.removeprefix("toml"))
        advisory, versions = fields["advisory"], fields["versions"]
        if "withdrawn" in advisory:
            continue
        title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), "").strip()
        yield [
            advisory["id"],
            advisory["package"],
            advisory.get("informational", "vulnerability"),
            ";".join(versions["patched"]),
            ";".join(versions.get("unaffected", [])),
            title.replace("\t", " "),
        ]


def main(folder, day):
    kept = sorted(rows(folder))
    with open(pathlib.Path(__file__).parents[2] / "data" / "advisories.tsv", "w", encoding="utf-8") as out:
        out.write(f"# RustSec advisory database, copy of {day}, {len(kept)} advisories\n")
        for row in [COLUMNS, *kept]:
            out.write("\t".join(row) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
