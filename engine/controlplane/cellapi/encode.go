package cellapi

import (
	"encoding/json"
	"strconv"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// restOfDesired holds the fields of cells.Desired that marshalDesired encodes for each cell anew. The other fields are
// cached or shared.
type restOfDesired struct {
	Hold        *cells.Hold        `json:"hold,omitempty"`
	Notices     []cells.Notice     `json:"notices,omitempty"`
	Maintenance *cells.Maintenance `json:"maintenance,omitempty"`
	Debug       string             `json:"debug,omitempty"`
}

// assignmentJSON is an assignment with its JSON. It is immutable.
type assignmentJSON struct {
	assignment *cells.Assignment
	json       []byte
}

// encodeAnswer returns the cell's answer under snap as JSON with a final newline.
func (snap *snapshot) encodeAnswer(e *cellEntry) (body []byte, etag string, ok bool) {
	if snap.view == nil {
		return nil, "", false
	}
	d, etag, ok := snap.view.Cell(e.name)
	if !ok {
		return nil, "", false
	}
	body, err := snap.marshalDesired(e, &d)
	return body, etag, err == nil // values that came from YAML always encode
}

// marshalDesired returns json.Marshal of d and a newline, from cached parts: a new head is sent to ten thousand cells.
func (snap *snapshot) marshalDesired(e *cellEntry, d *cells.Desired) ([]byte, error) {
	name, err := json.Marshal(d.Cell)
	if err != nil {
		return nil, err
	}
	head, err := snap.marshalHead(d.Head)
	if err != nil {
		return nil, err
	}
	assignment, err := e.marshalAssignment(d.Assignment)
	if err != nil {
		return nil, err
	}
	rest := []byte("{}")
	if d.Hold != nil || len(d.Notices) > 0 || d.Maintenance != nil || d.Debug != "" {
		if rest, err = json.Marshal(restOfDesired{d.Hold, d.Notices, d.Maintenance, d.Debug}); err != nil {
			return nil, err
		}
	}
	flags, err := snap.marshalFlags(d.Flags)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(name)+len(head)+len(assignment)+len(rest)+len(flags)+48)
	b = append(append(b, `{"cell":`...), name...)
	b = append(append(b, `,"head":`...), head...)
	if assignment != nil {
		b = append(append(b, `,"assignment":`...), assignment...)
	}
	if len(rest) > len("{}") {
		b = append(append(b, ','), rest[1:len(rest)-1]...)
	}
	if flags != nil {
		b = append(append(b, `,"flags":`...), flags...)
	}
	return append(b, "}\n"...), nil
}

// marshalAssignment returns a as JSON, cached in e. Views share unchanged assignments.
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

// marshalFlags returns f as JSON. Bundle and orders are encoded once for all cells.
func (snap *snapshot) marshalFlags(f *cells.Flags) ([]byte, error) {
	if f == nil {
		return nil, nil
	}
	bundle, err := marshalOnce(snap, sharedKey{"bundle", f.Bundle.Digest}, f.Bundle)
	if err != nil {
		return nil, err
	}
	orders, err := marshalOnce(snap, sharedKey{"orders", f.Orders.Digest}, f.Orders)
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

// marshalHead returns a sealed head as JSON, encoded once for all cells.
func (snap *snapshot) marshalHead(h cells.Sealed) ([]byte, error) {
	if len(h.Metadata) == 0 && snap.trust != nil {
		h.Metadata = snap.trust.noteSignatures()
	}
	return marshalOnce(snap, sharedKey{"head", h.Digest}, h)
}

// sharedKey identifies a part that many answers share.
type sharedKey struct {
	kind   string
	digest releases.Digest
}

// marshalOnce returns json.Marshal of the part that key identifies, encoded once under snap.
func marshalOnce(snap *snapshot, key sharedKey, of any) ([]byte, error) {
	if known, ok := snap.sharedJSON.Load(key); ok {
		return known.([]byte), nil
	}
	text, err := json.Marshal(of)
	if err == nil {
		snap.sharedJSON.Store(key, text)
	}
	return text, err
}
