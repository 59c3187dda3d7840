package controlplane

import (
	"encoding/json"

	"github.com/sluice-cd/sluice/cells"
)

// rest is a cells.Desired without what comes first in it: the cell's name, and the head that many cells share.
type rest struct {
	Assignment *cells.Assignment `json:"assignment,omitempty"`
	Hold       *cells.Hold       `json:"hold,omitempty"`
	Notices    []cells.Notice    `json:"notices,omitempty"`
}

// encode is the answer under at as JSON, ending with a newline.
func (at *posted) encode(p *place) (body []byte, etag string, ok bool) {
	if at.view == nil {
		return nil, "", false
	}
	d, etag, ok := at.view.Cell(p.name)
	if !ok {
		return nil, "", false
	}
	body, err := at.marshal(&d)
	return body, etag, err == nil // values that came from YAML always encode
}

// marshal is json.Marshal of d and a newline, at less than half the cost: ten thousand cells are told of one new head.
func (at *posted) marshal(d *cells.Desired) ([]byte, error) {
	name, err := json.Marshal(d.Cell)
	if err != nil {
		return nil, err
	}
	head, err := at.head(d.Head)
	if err != nil {
		return nil, err
	}
	more, err := json.Marshal(rest{d.Assignment, d.Hold, d.Notices})
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(name)+len(head)+len(more)+24)
	b = append(append(b, `{"cell":`...), name...)
	b = append(append(b, `,"head":`...), head...)
	if len(more) > len("{}") {
		b = append(append(b, ','), more[1:]...)
	} else {
		b = append(b, '}')
	}
	return append(b, '\n'), nil
}

// head is a sealed head as JSON, made once.
func (at *posted) head(h cells.Sealed) ([]byte, error) {
	if known, ok := at.heads.Load(h.Digest); ok {
		return known.([]byte), nil
	}
	text, err := json.Marshal(h)
	if err == nil {
		at.heads.Store(h.Digest, text)
	}
	return text, err
}
