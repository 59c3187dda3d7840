package manifest

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// json reads one JSON document. encoding/json would tell neither where a value stands nor of keys that are there twice.
func (f *freeReader) json(data []byte) Node {
	switch {
	case len(data) > MaxFile:
		f.at(0, "is larger than %d bytes", MaxFile)
		return Node{}
	case !utf8.Valid(data):
		f.at(invalidLine(data), "is not valid UTF-8")
		return Node{}
	case bytes.HasPrefix(data, []byte("\ufeff")):
		f.at(1, "begins with a byte order mark: save it as UTF-8 without one")
		return Node{}
	case len(bytes.TrimSpace(data)) == 0:
		f.at(1, "is empty")
		return Node{}
	}
	j := jsonReader{freeReader: f, data: data, line: 1}
	n := j.value()
	if j.space(); !j.stopped && j.pos < len(data) {
		j.fail("there is more after its end")
	}
	return n
}

type jsonReader struct {
	*freeReader
	data []byte
	pos  int
	line int // at pos
}

// fail says why the document is no JSON, and stops.
func (j *jsonReader) fail(why string) {
	if !j.stopped {
		j.at(j.line, "is not JSON: %s", why)
		j.stopped = true
	}
}

// expected is fail where something else should stand.
func (j *jsonReader) expected(what string) {
	if j.pos == len(j.data) {
		j.fail("it ends too early")
		return
	}
	c, _ := utf8.DecodeRune(j.data[j.pos:])
	j.fail("expected " + what + ", not " + string(c))
}

func (j *jsonReader) space() {
	for ; j.pos < len(j.data); j.pos++ {
		switch j.data[j.pos] {
		case '\n':
			j.line++
		case ' ', '\t', '\r':
		default:
			return
		}
	}
}

// peek gives the next byte that is no space, 0 at the end.
func (j *jsonReader) peek() byte {
	if j.space(); j.pos == len(j.data) {
		return 0
	}
	return j.data[j.pos]
}

// take takes c if it is next.
func (j *jsonReader) take(c byte) bool {
	if j.stopped || j.peek() != c {
		return false
	}
	j.pos++
	return true
}

func (j *jsonReader) value() Node {
	c := j.peek()
	n := Node{Line: j.line}
	switch {
	case j.stopped:
	case c == '{' || c == '[':
		if j.pos++; j.enter(n.Line) {
			if c == '{' {
				n.Value = j.members()
			} else {
				n.Value = j.list()
			}
		}
		j.depth--
	case c == '"':
		n.Value = j.text(j.quoted(), n.Line)
	case c == '-' || isDigit(c):
		n.Value = j.numeral()
	case j.literal("true"):
		n.Value = true
	case j.literal("false"):
		n.Value = false
	case j.literal("null"):
	default:
		j.expected("a value")
	}
	return n
}

func (j *jsonReader) literal(word string) bool {
	is := bytes.HasPrefix(j.data[j.pos:], []byte(word))
	if is {
		j.pos += len(word)
	}
	return is
}

// numeral reads a number, whose form decimal knows.
func (j *jsonReader) numeral() any {
	end := j.pos
	for end < len(j.data) && (isDigit(j.data[end]) || bytes.IndexByte([]byte("+-.eE"), j.data[end]) >= 0) {
		end++
	}
	s := string(j.data[j.pos:end])
	if !decimal(s) {
		j.fail(clip(s) + " is no number")
		return nil
	}
	j.pos = end
	return j.number(s, j.line)
}

// quoted reads a text, which begins here.
func (j *jsonReader) quoted() string {
	escaped := false
	for end := j.pos + 1; end < len(j.data); end++ {
		switch c := j.data[end]; {
		case c == '"':
			raw := j.data[j.pos : end+1]
			j.pos = end + 1
			if !escaped {
				return string(raw[1 : len(raw)-1])
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				j.fail("a text has an escape that there is not")
			}
			return s
		case c < ' ':
			j.fail("a text has a character that must be escaped, or has no end")
			return ""
		case c == '\\':
			escaped = true
			end++
		}
	}
	j.fail("a text has no end")
	return ""
}

func (j *jsonReader) list() []Node {
	if j.take(']') {
		return []Node{}
	}
	list := make([]Node, 0, 2) // as most lists in rules have
	for !j.stopped {
		list = append(list, j.value())
		switch {
		case j.take(']'):
			return list
		case !j.take(','):
			j.expected(", or ]")
		}
	}
	return list
}

func (j *jsonReader) members() Members {
	all := Members{}
	if j.take('}') {
		return all
	}
	keys := seenKeys{}
	for !j.stopped {
		if j.peek() != '"' {
			j.expected("a key in quotes")
			return all
		}
		line := j.line
		key := j.text(j.quoted(), line)
		if !j.take(':') {
			j.expected(":")
			return all
		}
		switch value := j.value(); {
		case j.stopped:
		case key == "":
			j.at(line, "a key must be text")
		case keys.twice(all, key):
			j.at(line, "%q is there twice", clip(key))
		default:
			all = append(all, Member{key, line, value})
		}
		switch {
		case j.take('}'):
			return all
		case !j.take(','):
			j.expected(", or }")
		}
	}
	return all
}
