package jsondoc

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Read reads one JSON document. With faults, it returns what could be read; the zero Node if the document is not JSON
// or exceeds the limits.
func Read(file string, data []byte, limits Limits) (Node, []Fault) {
	r := documentParser{Checker: Checker{File: file, Limits: limits}, data: data, line: 1}
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
	root := r.parseValue()
	if r.skipSpace(); !r.stopped && r.pos < len(data) {
		r.fail("there is text after its end")
	}
	if r.stopped {
		root = Node{}
	}
	return root, r.Faults
}

type documentParser struct {
	Checker
	data []byte
	pos  int
	line int // at pos
}

// fail stops with a syntax fault.
func (r *documentParser) fail(why string) {
	r.Stop(Syntax, r.line, "is not JSON: %s", why)
}

// failExpected stops with a fault that says what should stand here.
func (r *documentParser) failExpected(what string) {
	if r.pos == len(r.data) {
		r.fail("it ends too early")
		return
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	r.fail("expected " + what + ", not " + string(c))
}

func (r *documentParser) skipSpace() {
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

// peek returns the next byte that is no space, 0 at the end.
func (r *documentParser) peek() byte {
	if r.skipSpace(); r.pos == len(r.data) {
		return 0
	}
	return r.data[r.pos]
}

// consume skips c if c is the next byte that is no space.
func (r *documentParser) consume(c byte) bool {
	if r.stopped || r.peek() != c {
		return false
	}
	r.pos++
	return true
}

func (r *documentParser) parseValue() Node {
	c := r.peek()
	n := Node{Line: r.line}
	switch {
	case r.stopped:
	case c == '{' || c == '[':
		if r.pos++; r.Enter(n.Line) {
			if c == '{' {
				n.Value = r.parseMembers()
			} else {
				n.Value = r.parseList()
			}
		}
		r.Leave()
	case c == '"':
		n.Value = r.Text(r.parseString(), n.Line)
	case c == '-' || isDigit(c):
		n.Value = r.parseNumber()
	case r.consumeLiteral("true"):
		n.Value = true
	case r.consumeLiteral("false"):
		n.Value = false
	case r.consumeLiteral("null"):
	default:
		r.failExpected("a value")
	}
	return n
}

func (r *documentParser) consumeLiteral(word string) bool {
	is := bytes.HasPrefix(r.data[r.pos:], []byte(word))
	if is {
		r.pos += len(word)
	}
	return is
}

// parseNumber reads a number in the form that IsNumber accepts.
func (r *documentParser) parseNumber() any {
	end := r.pos
	for end < len(r.data) && (isDigit(r.data[end]) || bytes.IndexByte([]byte("+-.eE"), r.data[end]) >= 0) {
		end++
	}
	s := string(r.data[r.pos:end])
	if !IsNumber(s) {
		r.fail(Clip(s) + " is not a number")
		return nil
	}
	r.pos = end
	return r.Number(s, r.line)
}

// parseString reads the string that begins at pos.
func (r *documentParser) parseString() string {
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
				r.fail("a string has an unknown escape")
			}
			return s
		case c < ' ':
			r.fail("a string has a character that must be escaped, or has no end")
			return ""
		case c == '\\':
			escaped = true
			end++
		}
	}
	r.fail("a string has no end")
	return ""
}

func (r *documentParser) parseList() []Node {
	if r.consume(']') {
		return []Node{}
	}
	list := make([]Node, 0, 2) // the length of most lists in rules
	for !r.stopped {
		list = append(list, r.parseValue())
		switch {
		case r.consume(']'):
			return list
		case !r.consume(','):
			r.failExpected(", or ]")
		}
	}
	return list
}

func (r *documentParser) parseMembers() Members {
	all := Members{}
	if r.consume('}') {
		return all
	}
	keys := KeySet{}
	for !r.stopped {
		if r.peek() != '"' {
			r.failExpected("a key in quotes")
			return all
		}
		line := r.line
		key := r.Text(r.parseString(), line)
		if !r.consume(':') {
			r.failExpected(":")
			return all
		}
		switch value := r.parseValue(); {
		case r.stopped:
		case key == "":
			r.Fault(WrongType, line, "a key must be text")
		case keys.Repeated(all, key):
			r.Fault(Duplicate, line, "%q is there twice", Clip(key))
		default:
			all = append(all, Member{key, line, value})
		}
		switch {
		case r.consume('}'):
			return all
		case !r.consume(','):
			r.failExpected(", or }")
		}
	}
	return all
}

// KeySet finds repeated keys, in large mappings too.
type KeySet map[string]bool

// Repeated reports whether the mapping has the key already, and adds the key. before holds the members so far.
func (k *KeySet) Repeated(before Members, key string) bool {
	const few = 8
	if len(before) < few {
		return before.Get(key) != nil
	}
	if len(*k) == 0 {
		*k = make(KeySet, 2*few)
		for _, m := range before {
			(*k)[m.Key] = true
		}
	}
	repeated := (*k)[key]
	(*k)[key] = true
	return repeated
}

// IsNumber reports whether s is a number in JSON's notation.
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

// InvalidLine returns the line of the first byte that is not UTF-8.
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
