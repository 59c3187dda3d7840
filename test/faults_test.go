package test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	faultPattern  = regexp.MustCompile(`(?i)\bfaults?((?:\s*(?:,|and|//)?\s*\d+)+)`)
	numberPattern = regexp.MustCompile(`\d+`)
)

// Each documented fault that is implemented is named by a test, so that a change of the behaviour leads to the rule,
// and the removal of the test fails here.
func TestEveryFaultIsHeld(t *testing.T) {
	held := map[int][]string{}
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, "_test.go") || name == filepath.Join("..", "test", "faults_test.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !bytes.Contains(text, []byte("\nfunc Test")) && !bytes.Contains(text, []byte("testing.TB")) {
			return nil
		}
		for _, named := range faultPattern.FindAllSubmatch(text, -1) {
			for _, number := range numberPattern.FindAll(named[1], -1) {
				n, err := strconv.Atoi(string(number))
				if err != nil {
					return err
				}
				if !slices.Contains(held[n], name) {
					held[n] = append(held[n], name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, span := range [][2]int{{1, 20}, {28, 64}} {
		for n := span[0]; n <= span[1]; n++ {
			if len(held[n]) == 0 {
				t.Errorf("no test names fault %d", n)
			}
			t.Logf("fault %d: %s", n, strings.Join(held[n], ", "))
		}
	}
}
