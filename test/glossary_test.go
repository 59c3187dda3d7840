package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGlossary checks docs/glossary.md: each place exists, the terms are in order, none is there twice, and no word of
// CONTRIBUTING's own list is missing.
func TestGlossary(t *testing.T) {
	page, err := os.ReadFile("../docs/glossary.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| ([^|`]+) \\| ([^|]+) \\| `([^|`]+)` \\|$")
	terms := map[string]bool{}
	last := ""
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		term, where := m[1], m[3]
		if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(where))); err != nil {
			t.Errorf("docs/glossary.md: %s: %v", term, err)
		}
		if terms[term] {
			t.Errorf("docs/glossary.md lists %s twice", term)
		}
		if key := strings.ToLower(term); key < last {
			t.Errorf("docs/glossary.md lists %s after %s: the terms are sorted", term, last)
		} else {
			last = key
		}
		terms[term] = true
	}
	if rows := strings.Count(string(page), "\n|") - 2; len(terms) < 100 || rows != len(terms) {
		t.Errorf("docs/glossary.md has %d rows, of which %d have the form | term | meaning | `where` |", rows, len(terms))
	}

	contributing, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?s)- \*\*Words\.\*\*.*?:\s(.*?)\.\s`).FindSubmatch(contributing)
	if list == nil {
		t.Fatal("CONTRIBUTING.md has no list of words")
	}
	words := strings.Split(strings.Join(strings.Fields(string(list[1])), " "), ", ")
	if len(words) < 20 {
		t.Errorf("CONTRIBUTING.md lists only %d words", len(words))
	}
	for _, word := range words {
		if !terms[word] {
			t.Errorf("docs/glossary.md lacks %q, a word of CONTRIBUTING.md", word)
		}
	}
}
