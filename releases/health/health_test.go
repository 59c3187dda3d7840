package health_test

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases/health"
)

func TestCompile(t *testing.T) {
	for expression, says := range map[string]string{
		"object.status.phase == 'Up'":      "",
		"has(object.status)":               "",
		"object.x":                         "", // its type is known only with an object
		"":                                 "Syntax error",
		"object.status.phase =":            "column",
		"1 + 1":                            "must be a bool",
		"subject.x":                        "there is object",
		"true" + strings.Repeat(" ", 1100): "at most 1024",
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200): "column",
	} {
		_, err := health.Compile(expression)
		switch {
		case says == "" && err != nil:
			t.Errorf("%q: %v", expression, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%.40q: %v, want %q", expression, err, says)
		}
	}
}

func TestHolds(t *testing.T) {
	object := map[string]any{"n": int64(3), "list": make([]any, 1000), "text": "x"}
	for expression, want := range map[string]struct {
		holds bool
		says  string
	}{
		"object.n == 3": {true, ""},
		"object.n > 3":  {false, ""},
		"object.gone":   {false, "no such key"},
		"object.text":   {false, "no bool"},
		"object.list.all(a, object.list.all(b, object.list.all(c, c == b)))": {false, "cost"},
	} {
		e, err := health.Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		holds, err := e.Holds(object)
		if holds != want.holds || (err != nil) != (want.says != "") ||
			err != nil && !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: %t, %v", expression, holds, err)
		}
	}
}
