package objects

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

type Commit struct {
	Tree      ID
	Parents   []ID
	Author    Ident
	Committer Ident
	Message   string
	Signature []byte // the header gpgsig, armored; nil: unsigned
}

// Ident says who did something, and when by their own clock.
type Ident struct {
	Name  string
	Email string
	When  time.Time
}

// ErrMalformedCommit means that git itself can't read the commit.
var ErrMalformedCommit = errors.New("malformed commit")

const (
	maxMessage = 1 << 20 // bytes of a message that are kept
	maxParents = 1000
)

// ParseCommit reads a commit as git does: the tree comes first, then the parents. What else the header has does not
// stop reading, whoever wrote it: a commit with two signatures, for instance, counts as unsigned.
func ParseCommit(raw []byte) (*Commit, error) {
	c := &Commit{}
	head, message, _ := bytes.Cut(raw, []byte("\n\n"))
	c.Message = string(message[:min(len(message), maxMessage)])
	var err error
	at, signatures := 0, 0 // at: how many headers came before
	for line := range eachHeader(head) {
		key, value, _ := bytes.Cut(line, []byte{' '})
		switch {
		case at == 0:
			if string(key) != "tree" {
				return nil, fmt.Errorf("%w: no tree", ErrMalformedCommit)
			}
			if c.Tree, err = ParseID(string(value)); err != nil {
				return nil, fmt.Errorf("%w: tree: %w", ErrMalformedCommit, err)
			}
		case string(key) == "parent" && at == 1+len(c.Parents) && at <= maxParents:
			id, err := ParseID(string(value))
			if err != nil {
				return nil, fmt.Errorf("%w: parent: %w", ErrMalformedCommit, err)
			}
			c.Parents = append(c.Parents, id)
		case string(key) == "author" && c.Author == (Ident{}):
			c.Author = parseIdent(string(value))
		case string(key) == "committer" && c.Committer == (Ident{}):
			c.Committer = parseIdent(string(value))
		case string(key) == "gpgsig":
			signatures++
			c.Signature = bytes.ReplaceAll(value, []byte("\n "), []byte("\n"))
		}
		at++
	}
	if c.Tree.IsZero() {
		return nil, fmt.Errorf("%w: no tree", ErrMalformedCommit)
	}
	if signatures > 1 {
		c.Signature = nil
	}
	return c, nil
}

// eachHeader iterates over the headers, each with its continuation lines.
func eachHeader(head []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(head) > 0 {
			end := 0
			for {
				n := bytes.IndexByte(head[end:], '\n')
				if n < 0 {
					end = len(head)
					break
				}
				if end += n; end+1 >= len(head) || head[end+1] != ' ' {
					break
				}
				end++
			}
			if !yield(head[:end]) {
				return
			}
			head = head[min(end+1, len(head)):]
		}
	}
}

// StripSignatures returns a commit without its signatures: the bytes that the signatures sign.
func StripSignatures(raw []byte) []byte {
	head, message, ok := bytes.Cut(raw, []byte("\n\n"))
	out := make([]byte, 0, len(raw))
	for line := range eachHeader(head) {
		if bytes.HasPrefix(line, []byte("gpgsig ")) || bytes.HasPrefix(line, []byte("gpgsig-sha256 ")) {
			continue
		}
		out = append(append(out, line...), '\n')
	}
	if ok {
		out = append(append(out, '\n'), message...)
	}
	return out
}

// Encode writes the commit as git does.
func (c *Commit) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %v\n", c.Tree)
	for _, p := range c.Parents {
		fmt.Fprintf(&b, "parent %v\n", p)
	}
	fmt.Fprintf(&b, "author %v\ncommitter %v\n", c.Author, c.Committer)
	if c.Signature != nil {
		fmt.Fprintf(&b, "gpgsig %s\n", bytes.ReplaceAll(bytes.TrimRight(c.Signature, "\n"), []byte("\n"),
			[]byte("\n ")))
	}
	fmt.Fprintf(&b, "\n%s", c.Message)
	return b.Bytes()
}

// String formats the ident as git does, without characters that would break the line.
func (s Ident) String() string {
	clean := strings.NewReplacer("\n", "", "\x00", "", "<", "", ">", "")
	return fmt.Sprintf("%s <%s> %d %s", strings.TrimSpace(clean.Replace(s.Name)), clean.Replace(s.Email), s.When.Unix(),
		s.When.Format("-0700"))
}

// lastSecond ends the year 9999, with a margin for zones: later times can't be written as JSON.
const lastSecond = 253402214400

// parseIdent reads what it can: old tools wrote idents of many kinds, and nothing depends on them.
func parseIdent(text string) Ident {
	var s Ident
	name, rest, _ := strings.Cut(text, "<")
	s.Name = strings.TrimSpace(name)
	end := strings.LastIndexByte(rest, '>')
	if end < 0 {
		return s
	}
	s.Email = strings.TrimSpace(rest[:end])
	seconds, zone, _ := strings.Cut(strings.TrimSpace(rest[end+1:]), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || n < 0 || n > lastSecond {
		return s
	}
	s.When = time.Unix(n, 0).UTC()
	if z, err := strconv.Atoi(zone); err == nil && len(zone) == 5 && z > -2400 && z < 2400 && z != 0 {
		s.When = s.When.In(time.FixedZone("", (z/100*60+z%100)*60))
	}
	return s
}
