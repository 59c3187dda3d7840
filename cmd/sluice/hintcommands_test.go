package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// needed are the flags without which a verb is refused; of those with | between them, one is enough.
var needed = map[string][]string{
	"announce new": {"--title", "--feature"}, "announce cancel": {"--reason"}, "announce hold": {"--reason|--lift"},
	"announce publish": {"--now|--at"}, "flag kill": {"--reason"}, "flag unkill": {"--reason"},
	"hold": {"--reason|--lift"}, "rollback": {"--reason"}, "quarantine": {"--reason|--lift"},
	"freeze": {"--until|--lift"}, "hotfix": {"--to", "--reason|--close"}, "rollout halt": {"--reason"},
	"rollout skip-wave": {"--reason"}, "release cut": {"--from"}, "cell move": {"--to"}, "token add": {"--role"},
}

// withArgument matches a command that names what it is about, and is not a mere mention of the verb.
var withArgument = regexp.MustCompile(`\bsluice ((?:[a-z][a-z-]* ?){1,2}?) ((?:[A-Z%][^ ;,]*).*)`)

// Commands in messages and help work when they are pasted: they have the flags that their verbs can't do without.
func TestCommandsInMessagesAreWhole(t *testing.T) {
	checked := 0
	for _, folder := range []string{"engine", "channels", "releases", "flags", "cells", "cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				x, is := n.(ast.Expr)
				if !is {
					return true
				}
				text, is := textOf(x)
				if !is {
					return true
				}
				for clause := range strings.SplitSeq(strings.ReplaceAll(text, "\n", " "), ";") {
					m := withArgument.FindStringSubmatch(clause)
					if m == nil {
						continue
					}
					for _, flags := range needed[m[1]] {
						checked++
						if !regexp.MustCompile(flags).MatchString(m[2]) {
							t.Errorf("%s: %q lacks %s", file, "sluice "+m[1]+" "+m[2], flags)
						}
					}
				}
				return false
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if checked < 20 {
		t.Errorf("only %d flags were looked for: the messages have more", checked)
	}
}

// textOf returns a text that an expression puts together; what is not written there is %s. is reports whether any part
// is written there.
func textOf(x ast.Expr) (text string, is bool) {
	switch x := x.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(x.Value)
		return text, err == nil && x.Kind == token.STRING
	case *ast.BinaryExpr:
		left, one := textOf(x.X)
		right, other := textOf(x.Y)
		if x.Op != token.ADD || !one && !other {
			return "%s", false
		}
		return left + right, true
	}
	return "%s", false
}
