package jsondoc

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Read reads one JSON document. With faults it returns what could be read; the zero Node of what is not JSON, or beyond the limits.
func Read(file string, data []byte, limits Limits) (Node, []Fault) {
	r := reader{Checker: Checker{File: file, Limits: limits}, data: data, line: 1}
	switch {
	case len(data) > MaxFile:
		r.Stop(TooLarge, 0, "is larger than %d bytes", MaxFile)
	case !utf8.Valid(data):
		r.Stop(Encoding, InvalidLine(data), "is not valid UTF-8")
	case bytes.HasPrefix(data, []byte("\ufeff")):
		r.Stop(Encoding, 1, "begins with a byte order mark: save it as UTF-8 without one")
	case len(bytes.TrimSpace(data)) == 0:
		r.Stop(Missing, 1, "is empty")
	}
	if r.stopped {
		return Node{}, r.Faults
	}
	root := r.value()
	if r.space(); !r.stopped && r.pos < len(data) {
		r.fail("there is more after its end")
	}
	if r.stopped {
		root = Node{}
	}
	return root, r.Faults
}

type reader struct {
	Checker
	data []byte
	pos  int
	line int // at pos
}

// fail says why the document is no JSON, and stops.
func (r *reader) fail(why string) {
	r.Stop(Syntax, r.line, "is not JSON: %s", why)
}

// expected is fail where something else should stand.
func (r *reader) expected(what string) {
	if r.pos == len(r.data) {
		r.fail("it ends too early")
		return
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	r.fail("expected " + what + ", not " + string(c))
}

func (r *reader) space() {
	for ; r.pos < len(r.data); r.pos++ {
		switch r.data[r.pos] {
		case '\n':
			r.line++
		case ' ', '\t', '\r':
		default:
			return
		}
	}
}

// peek gives the next byte that is no space, 0 at the end.
func (r *reader) peek() byte {
	if r.space(); r.pos == len(r.data) {
		return 0
	}
	return r.data[r.pos]
}

// take takes c if it is next.
func (r *reader) take(c byte) bool {
	if r.stopped || r.peek() != c {
		return false
	}
	r.pos++
	return true
}

func (r *reader) value() Node {
	c := r.peek()
	n := Node{Line: r.line}
	switch {
	case r.stopped:
	case c == '{' || c == '[':
		if r.pos++; r.Enter(n.Line) {
			if c == '{' {
				n.Value = r.members()
			} else {
				n.Value = r.list()
			}
		}
		r.Leave()
	case c == '"':
		n.Value = r.Text(r.quoted(), n.Line)
	case c == '-' || isDigit(c):
		n.Value = r.numeral()
	case r.literal("true"):
		n.Value = true
	case r.literal("false"):
		n.Value = false
	case r.literal("null"):
	default:
		r.expected("a value")
	}
	return n
}

func (r *reader) literal(word string) bool {
	is := bytes.HasPrefix(r.data[r.pos:], []byte(word))
	if is {
		r.pos += len(word)
	}
	return is
}

// numeral reads a number, whose form IsNumber knows.
func (r *reader) numeral() any {
	end := r.pos
	for end < len(r.data) && (isDigit(r.data[end]) || bytes.IndexByte([]byte("+-.eE"), r.data[end]) >= 0) {
		end++
	}
	s := string(r.data[r.pos:end])
	if !IsNumber(s) {
		r.fail(Clip(s) + " is no number")
		return nil
	}
	r.pos = end
	return r.Number(s, r.line)
}

// quoted reads a text, which begins here.
func (r *reader) quoted() string {
	escaped := false
	for end := r.pos + 1; end < len(r.data); end++ {
		switch c := r.data[end]; {
		case c == '"':
			raw := r.data[r.pos : end+1]
			r.pos = end + 1
			if !escaped {
				return string(raw[1 : len(raw)-1])
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				r.fail("a text has an escape that there is not")
			}
			return s
		case c < ' ':
			r.fail("a text has a character that must be escaped, or has no end")
			return ""
		case c == '\\':
			escaped = true
			end++
		}
	}
	r.fail("a text has no end")
	return ""
}

func (r *reader) list() []Node {
	if r.take(']') {
		return []Node{}
	}
	list := make([]Node, 0, 2) // as most lists in rules have
	for !r.stopped {
		list = append(list, r.value())
		switch {
		case r.take(']'):
			return list
		case !r.take(','):
			r.expected(", or ]")
		}
	}
	return list
}

func (r *reader) members() Members {
	all := Members{}
	if r.take('}') {
		return all
	}
	keys := Keys{}
	for !r.stopped {
		if r.peek() != '"' {
			r.expected("a key in quotes")
			return all
		}
		line := r.line
		key := r.Text(r.quoted(), line)
		if !r.take(':') {
			r.expected(":")
			return all
		}
		switch value := r.value(); {
		case r.stopped:
		case key == "":
			r.Fault(WrongType, line, "a key must be text")
		case keys.Twice(all, key):
			r.Fault(Duplicate, line, "%q is there twice", Clip(key))
		default:
			all = append(all, Member{key, line, value})
		}
		switch {
		case r.take('}'):
			return all
		case !r.take(','):
			r.expected(", or }")
		}
	}
	return all
}

// Keys finds keys that are there twice, of large mappings too.
type Keys map[string]bool

func (s *Keys) Twice(before Members, key string) bool {
	const few = 8
	if len(before) < few {
		return before.Get(key) != nil
	}
	if len(*s) == 0 {
		*s = make(Keys, 2*few)
		for _, m := range before {
			(*s)[m.Key] = true
		}
	}
	there := (*s)[key]
	(*s)[key] = true
	return there
}

// IsNumber reports whether s is a number as JSON writes it.
func IsNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	digits := func() bool {
		rest := strings.TrimLeft(s, "0123456789")
		some := len(rest) < len(s)
		s = rest
		return some
	}
	if len(s) > 1 && s[0] == '0' && isDigit(s[1]) || !digits() {
		return false
	}
	if fraction, ok := strings.CutPrefix(s, "."); ok {
		if s = fraction; !digits() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		if s = s[1:]; s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		return digits() && s == ""
	}
	return s == ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// InvalidLine gives the line of the first byte that is not UTF-8.
func InvalidLine(data []byte) int {
	line := 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		data = data[n:]
	}
	return line
}
