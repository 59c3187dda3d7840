package cellapi

import (
	"encoding/json"
	"strconv"
	"sync"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/internal/jsonwrite"
	"github.com/sluice-cd/sluice/releases"
)

// restOfDesired holds the fields of cells.Desired that appendDesired encodes together. The other fields are cached,
// shared, or cheap.
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
	values     []byte // the part of it that stays while the Revision does; nil: there are none
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
	body, err := snap.appendDesired(nil, e, &d)
	return body, etag, err == nil // values that came from YAML always encode
}

// encodeEvent appends the cell's answer under snap as an event of a stream.
func (snap *snapshot) encodeEvent(e *cellEntry, b []byte) (event []byte, etag string, ok bool) {
	if snap.view == nil {
		return nil, "", false
	}
	d, etag, ok := snap.view.Cell(e.name)
	if !ok {
		return nil, "", false
	}
	event, err := snap.appendEvent(b, e, &d, etag)
	return event, etag, err == nil
}

// appendEvent appends an answer as an event of a stream, whose id is the ETag.
func (snap *snapshot) appendEvent(b []byte, e *cellEntry, d *cells.Desired, etag string) ([]byte, error) {
	b = append(append(append(b, "event: desired\nid: "...), etag...), "\ndata: "...)
	b, err := snap.appendDesired(b, e, d)
	return append(b, '\n'), err
}

// appendDesired appends json.Marshal of d and a newline, from cached parts: a new head is sent to ten thousand cells.
func (snap *snapshot) appendDesired(b []byte, e *cellEntry, d *cells.Desired) ([]byte, error) {
	head, err := snap.marshalHead(d.Head)
	if err != nil {
		return nil, err
	}
	assignment, err := e.marshalAssignment(d.Assignment)
	if err != nil {
		return nil, err
	}
	rest, err := snap.marshalRest(restOfDesired{d.Hold, d.Notices, d.Maintenance, d.Debug})
	if err != nil {
		return nil, err
	}
	if b == nil {
		b = make([]byte, 0, len(d.Cell)+len(head)+len(assignment)+len(rest)+512)
	}
	w := jsonwrite.Writer{Bytes: b}
	w.String(`{"cell":`, d.Cell)
	w.Raw(`,"head":`)
	w.Bytes = append(w.Bytes, head...)
	if assignment != nil {
		w.Raw(`,"assignment":`)
		w.Bytes = append(w.Bytes, assignment...)
	}
	if len(rest) > len("{}") {
		w.Raw(`,`)
		w.Bytes = append(w.Bytes, rest[1:len(rest)-1]...)
	}
	if d.Flags != nil {
		w.Raw(`,"flags":`)
		if w.Bytes, err = snap.appendFlags(w.Bytes, d.Flags); err != nil {
			return nil, err
		}
	}
	w.Raw("}\n")
	return w.Bytes, w.Err
}

// marshalAssignment returns a as JSON, cached in e. Views share unchanged assignments.
func (e *cellEntry) marshalAssignment(a *cells.Assignment) ([]byte, error) {
	if a == nil {
		return nil, nil
	}
	known := e.assignment.Load()
	if known != nil && known.assignment == a {
		return known.json, nil
	}
	next := &assignmentJSON{assignment: a}
	var err error
	if known != nil && a.Revision != "" && known.assignment.Revision == a.Revision {
		next.values = known.values
	} else if len(a.Values) > 0 {
		next.values, err = a.MarshalValues()
	}
	if err == nil {
		next.json, err = a.AppendJSON(make([]byte, 0, 320+len(next.values)), next.values)
	}
	if err == nil {
		e.assignment.Store(next)
	}
	return next.json, err
}

// appendFlags appends f as JSON. Bundle and orders are encoded once for all cells.
func (snap *snapshot) appendFlags(b []byte, f *cells.Flags) ([]byte, error) {
	bundle, err := snap.marshalBundle(f.Bundle)
	if err != nil {
		return nil, err
	}
	orders, err := snap.marshalSealed("orders", f.Orders)
	if err != nil {
		return nil, err
	}
	b = strconv.AppendInt(append(b, `{"height":`...), f.Height, 10)
	b = append(append(b, `,"bundle":`...), bundle...)
	b = append(append(b, `,"orders":`...), orders...)
	if len(f.Labels) > 0 {
		labels, err := json.Marshal(f.Labels)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"labels":`...), labels...)
	}
	return append(b, '}'), nil
}

// marshalHead returns a sealed head as JSON, encoded once for all cells.
func (snap *snapshot) marshalHead(h cells.Sealed) ([]byte, error) {
	if len(h.Metadata) == 0 && snap.trust != nil {
		h.Metadata = snap.trust.noteSignatures()
	}
	return snap.marshalSealed("head", h)
}

func (snap *snapshot) marshalSealed(kind string, h cells.Sealed) ([]byte, error) {
	key := sharedKey{kind: kind, digest: h.Digest}
	if known := snap.shared.find(&key); known != nil {
		return known, nil
	}
	return snap.shared.add(key, h)
}

func (snap *snapshot) marshalBundle(f cells.FlagBundle) ([]byte, error) {
	key := sharedKey{kind: "bundle", digest: f.Digest}
	if len(f.Content) > 0 {
		key.kind = "bundle with its bytes"
	}
	if known := snap.shared.find(&key); known != nil {
		return known, nil
	}
	return snap.shared.add(key, f)
}

// marshalRest returns r as JSON, encoded once for all cells that wait for the same.
func (snap *snapshot) marshalRest(r restOfDesired) ([]byte, error) {
	key := sharedKey{kind: "rest"}
	if r.Hold != nil {
		key.hold = *r.Hold
	}
	if r.Maintenance != nil {
		key.maintenance = r.Maintenance.Policy
	}
	switch {
	case len(r.Notices) > 0 || r.Debug != "" || r.Maintenance != nil && len(r.Maintenance.Texts) > 0:
		return json.Marshal(r)
	case r.Hold == nil && r.Maintenance == nil:
		return nil, nil
	case r.Hold == nil:
		key.kind = "rest without a hold"
	case r.Maintenance == nil:
		key.kind = "rest without a maintenance"
	}
	if known := snap.shared.find(&key); known != nil {
		return known, nil
	}
	return snap.shared.add(key, r)
}

// sharedKey identifies a part that many answers share.
type sharedKey struct {
	kind        string
	digest      releases.Digest
	hold        cells.Hold
	maintenance maintenance.Policy
}

// sharedParts holds encoded parts that many answers under one view share.
type sharedParts struct {
	mu    sync.RWMutex // guards bytes
	bytes map[sharedKey][]byte
}

func newSharedParts() *sharedParts { return &sharedParts{bytes: map[sharedKey][]byte{}} }

// find returns the part that key identifies, or nil.
func (p *sharedParts) find(key *sharedKey) []byte {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.bytes[*key]
}

// add returns json.Marshal of the part that key identifies, and keeps it. Parts are passed as they are only to be
// added: to find one costs no memory.
func (p *sharedParts) add(key sharedKey, part any) ([]byte, error) {
	text, err := json.Marshal(part)
	if err == nil {
		p.keep(key, text)
	}
	return text, err
}

func (p *sharedParts) keep(key sharedKey, text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes[key] = text
}
