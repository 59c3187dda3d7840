package cellapi

import (
	"encoding/json"
	"strconv"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// holdAndNotices is a cells.Desired without what comes first and last in it: the cell's name, the head that many cells share, the
// assignment, which a cell is told again with every head; and flags, of which many share most.
type holdAndNotices struct {
	Hold    *cells.Hold    `json:"hold,omitempty"`
	Notices []cells.Notice `json:"notices,omitempty"`
}

// assignmentJSON is kept with the assignment that it is of. Immutable.
type assignmentJSON struct {
	assignment *cells.Assignment
	json       []byte
}

// encodeAnswer is the answer under at as JSON, ending with a newline.
func (at *snapshot) encodeAnswer(e *cellEntry) (body []byte, etag string, ok bool) {
	if at.view == nil {
		return nil, "", false
	}
	d, etag, ok := at.view.Cell(e.name)
	if !ok {
		return nil, "", false
	}
	body, err := at.marshalDesired(e, &d)
	return body, etag, err == nil // values that came from YAML always encode
}

// marshalDesired is json.Marshal of d, which is e's, and a newline, at a fraction of the cost: ten thousand cells are told of one new head.
func (at *snapshot) marshalDesired(e *cellEntry, d *cells.Desired) ([]byte, error) {
	name, err := json.Marshal(d.Cell)
	if err != nil {
		return nil, err
	}
	head, err := at.marshalHead(d.Head)
	if err != nil {
		return nil, err
	}
	given, err := e.marshalAssignment(d.Assignment)
	if err != nil {
		return nil, err
	}
	more := []byte("{}")
	if d.Hold != nil || len(d.Notices) > 0 {
		if more, err = json.Marshal(holdAndNotices{d.Hold, d.Notices}); err != nil {
			return nil, err
		}
	}
	lit, err := at.marshalFlags(d.Flags)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(name)+len(head)+len(given)+len(more)+len(lit)+48)
	b = append(append(b, `{"cell":`...), name...)
	b = append(append(b, `,"head":`...), head...)
	if given != nil {
		b = append(append(b, `,"assignment":`...), given...)
	}
	if len(more) > len("{}") {
		b = append(append(b, ','), more[1:len(more)-1]...)
	}
	if lit != nil {
		b = append(append(b, `,"flags":`...), lit...)
	}
	return append(b, "}\n"...), nil
}

// marshalAssignment is a as JSON, kept while the cell has it: views change nothing in it, and share it.
func (e *cellEntry) marshalAssignment(a *cells.Assignment) ([]byte, error) {
	if a == nil {
		return nil, nil
	}
	if known := e.assignment.Load(); known != nil && known.assignment == a {
		return known.json, nil
	}
	text, err := json.Marshal(a)
	if err == nil {
		e.assignment.Store(&assignmentJSON{a, text})
	}
	return text, err
}

// marshalFlags is f as JSON: bundle and orders made once, for many cells are told the same.
func (at *snapshot) marshalFlags(f *cells.Flags) ([]byte, error) {
	if f == nil {
		return nil, nil
	}
	bundle, err := marshalOnce(at, sharedKey{"bundle", f.Bundle.Digest}, f.Bundle)
	if err != nil {
		return nil, err
	}
	orders, err := marshalOnce(at, sharedKey{"orders", f.Orders.Digest}, f.Orders)
	if err != nil {
		return nil, err
	}
	var labels []byte
	if len(f.Labels) > 0 {
		if labels, err = json.Marshal(f.Labels); err != nil {
			return nil, err
		}
	}
	b := make([]byte, 0, len(bundle)+len(orders)+len(labels)+64)
	b = strconv.AppendInt(append(b, `{"height":`...), f.Height, 10)
	b = append(append(b, `,"bundle":`...), bundle...)
	b = append(append(b, `,"orders":`...), orders...)
	if labels != nil {
		b = append(append(b, `,"labels":`...), labels...)
	}
	return append(b, '}'), nil
}

// marshalHead is a sealed head as JSON, made once.
func (at *snapshot) marshalHead(h cells.Sealed) ([]byte, error) {
	return marshalOnce(at, sharedKey{"head", h.Digest}, h)
}

// sharedKey names a part of answers that many cells share.
type sharedKey struct {
	kind   string
	digest releases.Digest
}

// marshalOnce is json.Marshal of what a key stands for, made once under at.
func marshalOnce(at *snapshot, key sharedKey, of any) ([]byte, error) {
	if known, ok := at.sharedJSON.Load(key); ok {
		return known.([]byte), nil
	}
	text, err := json.Marshal(of)
	if err == nil {
		at.sharedJSON.Store(key, text)
	}
	return text, err
}
