package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// json reads one JSON document, by its tokens: they have places, and keys that are there twice.
func (f *freeReader) json(data []byte) Node {
	switch {
	case len(data) > MaxFile:
		f.at(0, "is larger than %d bytes", MaxFile)
		return Node{}
	case !utf8.Valid(data):
		f.at(invalidLine(data), "is not valid UTF-8")
		return Node{}
	}
	j := jsonReader{freeReader: f, data: data, line: 1, in: json.NewDecoder(bytes.NewReader(data))}
	j.in.UseNumber()
	n := j.value()
	if _, err := j.in.Token(); !f.stopped && !errors.Is(err, io.EOF) {
		f.at(j.here(), "has more than one document: put each in a file of its own")
	}
	return n
}

type jsonReader struct {
	*freeReader
	data []byte
	in   *json.Decoder
	read int // bytes whose lines are counted
	line int
}

// here gives the line where the newest token stands: none has a line break within.
func (j *jsonReader) here() int {
	to := int(j.in.InputOffset())
	j.line += bytes.Count(j.data[j.read:to], []byte("\n"))
	j.read = to
	return j.line
}

// token gives the next token, nil also at the first fault, which is the last.
func (j *jsonReader) token() json.Token {
	t, err := j.in.Token()
	if err == nil {
		return t
	}
	if !j.stopped {
		line := j.here()
		if rest := bytes.TrimLeft(j.data[j.read:], " \t\r\n,:"); len(rest) > 0 { // the fault is in the next token
			line += bytes.Count(j.data[j.read:len(j.data)-len(rest)], []byte("\n"))
		}
		switch {
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(j.data)) == 0:
			j.at(1, "is empty")
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			j.at(line, "is not JSON: it ends too early")
		default:
			j.at(line, "is not JSON: %v", err)
		}
		j.stopped = true
	}
	return nil
}

func (j *jsonReader) value() Node { return j.of(j.token()) }

// of gives the value that begins with t.
func (j *jsonReader) of(t json.Token) Node {
	n := Node{Line: j.here()}
	if j.stopped {
		return n
	}
	switch t := t.(type) {
	case json.Delim:
		defer func() { j.depth-- }()
		switch {
		case !j.enter(n.Line):
		case t == '{':
			n.Value = j.members()
		case t == '[':
			list := []Node{}
			for j.in.More() && !j.stopped {
				list = append(list, j.value())
			}
			j.token()
			n.Value = list
		}
	case json.Number:
		n.Value = j.number(t.String(), n.Line)
	case string:
		n.Value = j.text(t, n.Line)
	case bool:
		n.Value = t
	}
	return n
}

func (j *jsonReader) members() Members {
	all := Members{}
	keys := seenKeys{}
	for j.in.More() && !j.stopped {
		key, _ := j.token().(string)
		line := j.here()
		key = j.text(key, line)
		value := j.value()
		switch {
		case j.stopped:
		case key == "":
			j.at(line, "a key must be text")
		case keys.twice(all, key):
			j.at(line, "%q is there twice", clip(key))
		default:
			all = append(all, Member{key, line, value})
		}
	}
	j.token()
	return all
}
