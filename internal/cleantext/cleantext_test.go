package cleantext

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// R54: what a terminal, a log viewer or a CI system would obey is shown.
func TestR54WhatWouldBeObeyedIsShown(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"plain, with é, 漢字 and �":     "plain, with é, 漢字 and �",
		"one\ntwo\r\nthree\tfour":     `one\ntwo\r\nthree\tfour`,
		"\x1b]0;title\x07\x1b[2J":     `\x1b]0;title\x07\x1b[2J`,
		"\u009b2J \u0085 \x7f \x00":   `\u009b2J \u0085 \x7f \x00`,
		"\u2028\u2029":                `\u2028\u2029`,
		"\u202egpj.exe \u2066x\u2069": `\u202egpj.exe \u2066x\u2069`,
		"\u200e\u200f\u061c":          `\u200e\u200f\u061c`,
		"a\u200bb\ufeffc\u00add":      `a\u200bb\ufeffc\u00add`,
		"\U000e0041":                  `\U000e0041`,
		"\x9b2J \xff":                 `\x9b2J \xff`,
		"می\u200cخواهم 👩\u200d💻 \u0600\u0661": "می\u200cخواهم 👩\u200d💻 \u0600\u0661",
	} {
		got := Line(in)
		if got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
		if again := Line(got); again != got {
			t.Errorf("cleaned twice, %q is %q", got, again)
		}
	}
	if got := Text("one\r\n\ttwo\r\x1b[1A"); got != "one\n\ttwo"+`\r\x1b[1A` {
		t.Errorf("got %q", got)
	}
}

func TestR54AddressesShowNoCredentials(t *testing.T) {
	for in, want := range map[string]string{
		"https://bot:s3cret@host/r.git":             "https://host/r.git",
		"https://s3cret@host/r.git":                 "https://host/r.git",
		"HTTPS://:s3cret@host/r.git":                "HTTPS://host/r.git",
		"http://bot:s3cr%40t@[::1]:80/r":            "http://[::1]:80/r",
		"https://bot:s3cret@host@evil/r":            "https://evil/r",
		"https://bot:s3 cret@host/r":                "https://host/r",
		"https://bot:s3/cret@host/r":                "https://host/r",
		"https://bot:s3%zzcret@host/r":              "https://host/r",
		"https://host/r.git?access_token=s3cret":    "https://host/r.git",
		"https://host/r.git#s3cret":                 "https://host/r.git",
		"ssh://git@host/r":                          "ssh://git@host/r",
		"ssh://git:s3cret@host/r":                   "ssh://git@host/r",
		"postgres://sluice:s3cret@host:5432/sluice": "postgres://sluice@host:5432/sluice",
		"git@host:r.git":                            "git@host:r.git",
		"/srv/git/a@b.git":                          "/srv/git/a@b.git",
		"https://host/team/@scope/r":                "https://host/team/@scope/r",
	} {
		if got := Address(in); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
		if got, want := HasCredentials(in), strings.Contains(in, "cret@") || strings.Contains(in, "%40"); got != want {
			t.Errorf("%s has credentials: %v", in, got)
		}
	}
	// What git and net/http write: the address is somewhere in the text.
	for in, want := range map[string]string{
		"fatal: unable to access 'https://ci:s3cret@host/r.git/': refused": "fatal: unable to access 'https://host/r.git/': refused",
		`Get "http://s3cret@127.0.0.1:9/r.git/info/refs": dial tcp`:        `Get "http://127.0.0.1:9/r.git/info/refs": dial tcp`,
		"a https://x:s3cret@h, b ssh://git:s3cret@h":                       "a https://h, b ssh://git@h",
		"mail ada@example.com, see https://example.com/@ada":               "mail ada@example.com, see https://example.com/@ada",
	} {
		if got := Line(in); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
}

// R54: JSON, and YAML in double quotes, means the same after cleaning.
func TestR54EncodedTextKeepsItsMeaning(t *testing.T) {
	text := "a\u202eb\u009b2J\U000e0041\x7f é\nend"
	encoded, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	clean := JSON(encoded)
	var fromJSON, fromYAML map[string]string
	if err := json.Unmarshal(clean, &fromJSON); err != nil || fromJSON["text"] != text {
		t.Errorf("%s is %q, %v", clean, fromJSON, err)
	}
	node := yaml.Node{Kind: yaml.ScalarNode, Value: text, Style: yaml.DoubleQuotedStyle}
	encoded, err = yaml.Marshal(map[string]*yaml.Node{"text": &node})
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(YAML(encoded), &fromYAML); err != nil || fromYAML["text"] != text {
		t.Errorf("%s is %q, %v", YAML(encoded), fromYAML, err)
	}
	for _, b := range [][]byte{clean, YAML(encoded)} {
		if strings.ContainsAny(string(b), "\u202e\u009b\x7f\U000e0041") {
			t.Errorf("%q is not clean", b)
		}
	}
	address := `{"url":"https://a:s3cret@h","by":"x@y"}`
	if got := string(JSON([]byte(address))); got != address {
		t.Errorf("got %s", got)
	}
	if got := string(LogLine([]byte(address))); got != `{"url":"https://h","by":"x@y"}` {
		t.Errorf("got %s", got)
	}
}

func FuzzLine(f *testing.F) {
	for _, seed := range []string{"a\nb", "\x1b[0m", "https://a:b@c", "\xff\u202e", "x://y:z@@"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got := Line(in)
		if !utf8.ValidString(got) || !isClean(got, "") || Line(got) != got || len(got) > 6*len(in) {
			t.Errorf("%q is shown as %q", in, got)
		}
	})
}
