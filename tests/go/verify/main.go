// Verify checks receipts (NAME.leaf with NAME.tlog-proof) with the Go project's own note and tlog packages. It only
// takes the files apart and never decides anything itself: it is the second opinion on the Rust module.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var subject string // the file at hand, named when it fails

func main() {
	subject = os.Args[2]
	var keys []note.Verifier
	for _, line := range strings.Fields(string(must(os.ReadFile(subject)))) {
		keys = append(keys, must(note.NewVerifier(line)))
	}
	subject = os.Args[1]
	names := must(filepath.Glob(filepath.Join(subject, "*.tlog-proof")))
	for _, subject = range names {
		verify(note.VerifierList(keys...))
	}
	fmt.Println(len(names), "verified")
}

func verify(keys note.Verifiers) {
	leaf := must(os.ReadFile(strings.TrimSuffix(subject, ".tlog-proof") + ".leaf"))
	head, checkpoint, _ := strings.Cut(string(must(os.ReadFile(subject))), "\n\n")
	lines := strings.Split(head, "\n")
	index := must(strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64))
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		proof = append(proof, must(tlog.ParseHash(line)))
	}
	opened := must(note.Open([]byte(checkpoint), keys))
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" || opened.Sigs[0].Name != origin {
		must(0, fmt.Errorf("another format, or another log's signature"))
	}
	tree := must(tlog.ParseTree([]byte("go.sum database tree\n" + rest))) // the only origin ParseTree knows
	must(0, tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(leaf)))
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, subject+":", err)
		os.Exit(1)
	}
	return value
}
