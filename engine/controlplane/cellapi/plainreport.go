package cellapi

import (
	"bytes"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// readPlainReport reads a report as agents write it: without white space, each field once, texts without escapes. Most
// of what cells report is so, and this takes a fraction of the time of encoding/json. It returns false for all else,
// which encoding/json reads then; it also says what is wrong.
func readPlainReport(body []byte, report *cells.Report) bool {
	r := plainReader{text: bytes.TrimRight(body, " \t\r\n")}
	var running []byte // as it is spelled
	plain := r.object(func(name []byte) (number int, ok bool) {
		switch string(name) {
		case "cell":
			return 0, r.str(&report.Cell)
		case "boot":
			return 1, r.str(&report.Boot)
		case "sent":
			quoted, ok := r.quoted()
			return 2, ok && report.Sent.UnmarshalJSON(quoted) == nil
		case "agent":
			return 3, r.str(&report.Agent)
		case "state":
			return 4, r.str((*string)(&report.State))
		case "running":
			begin := r.at
			ok := r.assignment(&report.Running)
			running = r.text[begin:r.at]
			return 5, ok
		case "applying":
			return 6, r.assignment(&report.Applying)
		case "acknowledged":
			if len(running) > 0 && bytes.HasPrefix(r.text[r.at:], running) { // a healthy cell's are the same
				r.at += len(running)
				report.Acknowledged = report.Running
				return 7, true
			}
			return 7, r.assignment(&report.Acknowledged)
		case "message":
			return 8, r.str(&report.Message)
		case "confirmed":
			return 9, r.integer(&report.Confirmed)
		case "unhealthy":
			return 10, r.other(&report.Unhealthy)
		case "failures":
			return 11, r.other(&report.Failures)
		case "owner":
			return 12, r.other(&report.Owner)
		case "flags":
			return 13, r.other(&report.Flags)
		case "events":
			return 14, r.other(&report.Events)
		case "infrastructure":
			return 15, r.other(&report.Infrastructure)
		case "maintenance":
			return 16, r.other(&report.Maintenance)
		case "debug":
			return 17, r.other(&report.Debug)
		case "signatures":
			return 18, r.other(&report.Signatures)
		}
		return 0, false
	})
	return plain && r.at == len(r.text)
}

// plainReader reads JSON of the plain kind. Its methods return false where the text is of another kind, or wrong; then
// the reader is of no further use.
type plainReader struct {
	text []byte
	at   int
}

// is takes one character, if it is next.
func (r *plainReader) is(c byte) bool {
	if r.at < len(r.text) && r.text[r.at] == c {
		r.at++
		return true
	}
	return false
}

// object reads an object's fields. A field's number must be there once: encoding/json would merge two.
func (r *plainReader) object(field func(name []byte) (number int, ok bool)) bool {
	if !r.is('{') {
		return false
	}
	if r.is('}') {
		return true
	}
	for seen := uint32(0); ; {
		name, ok := r.quoted()
		if !ok || !r.is(':') {
			return false
		}
		number, ok := field(name[1 : len(name)-1])
		if !ok || seen&(1<<number) != 0 {
			return false
		}
		seen |= 1 << number
		if r.is('}') {
			return true
		}
		if !r.is(',') {
			return false
		}
	}
}

// quoted reads a text of printable ASCII without escapes, and returns it with its quotes.
func (r *plainReader) quoted() ([]byte, bool) {
	begin := r.at
	if !r.is('"') {
		return nil, false
	}
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return r.text[begin:r.at], true
		case c < ' ', c > '~', c == '\\':
			return nil, false
		}
	}
	return nil, false
}

func (r *plainReader) str(into *string) bool {
	quoted, ok := r.quoted()
	if ok {
		*into = string(quoted[1 : len(quoted)-1])
	}
	return ok
}

func (r *plainReader) digest(into *releases.Digest) bool {
	quoted, ok := r.quoted()
	return ok && into.UnmarshalText(quoted[1:len(quoted)-1]) == nil
}

// integer reads a number of at most 18 digits.
func (r *plainReader) integer(into *int64) bool {
	negative := r.is('-')
	begin, n := r.at, int64(0)
	for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
		n = n*10 + int64(r.text[r.at]-'0')
		r.at++
	}
	if digits := r.at - begin; digits == 0 || digits > 18 || digits > 1 && r.text[begin] == '0' {
		return false
	}
	if negative {
		n = -n
	}
	*into = n
	return true
}

func (r *plainReader) boolean(into *bool) bool {
	rest := r.text[r.at:]
	switch {
	case bytes.HasPrefix(rest, []byte("true")):
		r.at, *into = r.at+len("true"), true
	case bytes.HasPrefix(rest, []byte("false")):
		r.at += len("false")
	default:
		return false
	}
	return true
}

func (r *plainReader) assignment(into **cells.Assignment) bool {
	a := new(cells.Assignment)
	*into = a
	return r.object(func(name []byte) (number int, ok bool) {
		switch string(name) {
		case "channel":
			return 0, r.str(&a.Channel)
		case "epoch":
			return 1, r.integer(&a.Epoch)
		case "sequence":
			return 2, r.integer(&a.Sequence)
		case "release":
			return 3, r.str(&a.Release)
		case "digest":
			return 4, r.digest(&a.Digest)
		case "profile":
			return 5, r.str(&a.Profile)
		case "values":
			return 6, r.other(&a.Values)
		case "revision":
			return 7, r.str(&a.Revision)
		case "forwardOnly":
			return 8, r.boolean(&a.ForwardOnly)
		case "retry":
			return 9, r.str(&a.Retry)
		}
		return 0, false
	})
}

// other has encoding/json read a value of any kind.
func (r *plainReader) other(into any) bool {
	begin, depth, inText := r.at, 0, false
	for ; r.at < len(r.text); r.at++ {
		c := r.text[r.at]
		switch {
		case inText && c == '\\':
			r.at++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{', c == '[':
			depth++
		case depth == 0 && (c == ',' || c == '}' || c == ']'):
			return decodeStrictly(r.text[begin:r.at], into) == nil
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}
