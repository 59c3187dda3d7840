package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Format names the format of exports, in their first line.
const Format = "sluice audit/1"

// maxLine is the longest line of an export, in bytes.
const maxLine = 64 << 10

// Header is the first line of an export.
type Header struct {
	Format string `json:"format"`
	Cut    Head   `json:"cut"`  // the last row that was deleted for its age; number 0: none was
	Head   Head   `json:"head"` // the newest row
}

// line is any other line of an export.
type line struct {
	Hash string          `json:"hash"`
	Row  json.RawMessage `json:"row"`
}

// Exporter writes an export: JSON Lines, the header first. It is for one goroutine.
type Exporter struct{ to io.Writer }

// NewExporter begins an export.
func NewExporter(to io.Writer, h Header) (*Exporter, error) {
	h.Format = Format
	data, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	_, err = to.Write(append(data, '\n'))
	return &Exporter{to}, err
}

// Write writes the next row. It is written by hand, since encoding could change bytes of the row that are hashed.
func (e *Exporter) Write(r Sealed) error {
	_, err := fmt.Fprintf(e.to, "{\"hash\":%q,\"row\":%s}\n", r.Hash, r.Body)
	return err
}

// Finding is something that is wrong with a chain.
type Finding struct {
	Number int64  `json:"number"` // of the row that it is about
	What   string `json:"what"`
}

// Witness is a head that is known from elsewhere, with where it is from.
type Witness struct {
	Head
	From string // "an earlier export"
}

// Report is what Verify found.
type Report struct {
	Rows     int64     `json:"rows"`
	First    int64     `json:"first,omitempty"`
	Last     int64     `json:"last,omitempty"`
	Cut      Head      `json:"cut"`
	Head     Head      `json:"head"`
	Compared int       `json:"compared"` // with so many witnesses
	Findings []Finding `json:"findings"`
}

// maxFindings bounds what is listed: a lost middle is one finding, and a chain that is all wrong needs no million.
const maxFindings = 100

// ReadHead returns what an export ends with, by its first line.
func ReadHead(r io.Reader) (Head, error) {
	h, err := readHeader(newScanner(r))
	return h.Head, err
}

func newScanner(r io.Reader) *bufio.Scanner {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, maxLine), maxLine)
	return in
}

func readHeader(in *bufio.Scanner) (h Header, err error) {
	if !in.Scan() || json.Unmarshal(in.Bytes(), &h) != nil || h.Format != Format {
		return h, errors.Join(errors.New("the first line is not that of an export of the audit: "+
			"make one with sluice audit export"), in.Err())
	}
	return h, nil
}

// Verify reads an export, and compares it with what is known of it from elsewhere. It returns an error only if the
// input is no export.
func Verify(r io.Reader, known []Witness) (Report, error) {
	in := newScanner(r)
	h, err := readHeader(in)
	if err != nil {
		return Report{}, err
	}
	v := &verifier{report: Report{Cut: h.Cut, Head: h.Head, Findings: []Finding{}}, previous: h.Cut,
		hashes: map[int64]string{h.Cut.Number: h.Cut.Hash}, wanted: map[int64]bool{}}
	for _, w := range known {
		v.wanted[w.Number] = true
	}
	for n := 2; in.Scan(); n++ {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return v.report, fmt.Errorf("line %d is none of an export: %w", n, err)
		}
		v.addRow(l)
	}
	if err := in.Err(); err != nil {
		return v.report, fmt.Errorf("read the export: %w", err)
	}
	v.finish(known)
	return v.report, nil
}

type verifier struct {
	report   Report
	previous Head             // the row before, as it is
	wanted   map[int64]bool   // rows that witnesses know
	hashes   map[int64]string // of these, and of the last that was cut
}

func (v *verifier) find(number int64, format string, args ...any) {
	if len(v.report.Findings) < maxFindings {
		v.report.Findings = append(v.report.Findings, Finding{number, fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) addRow(l line) {
	var row Row
	if err := json.Unmarshal(l.Row, &row); err != nil {
		v.find(v.previous.Number+1, "row %d can't be read", v.previous.Number+1)
		return
	}
	v.report.Rows++
	if v.report.First == 0 {
		v.report.First = row.Number
	}
	v.report.Last = row.Number
	actual := HashRow(bytes.TrimSpace(l.Row))
	changed := actual != l.Hash
	if changed {
		v.find(row.Number, "row %d was changed: it does not have the hash that was stored with it", row.Number)
	}
	switch next := v.previous.Number + 1; {
	case row.Number > next+1:
		v.find(next, "rows %d to %d are missing", next, row.Number-1)
	case row.Number == next+1:
		v.find(next, "row %d is missing", next)
	case row.Number < next:
		v.find(row.Number, "row %d comes after row %d", row.Number, v.previous.Number)
	case row.Prev != v.previous.Hash:
		v.find(row.Number, "row %d does not follow row %d: one of the two was changed", row.Number, v.previous.Number)
	}
	v.previous = Head{Number: row.Number, Hash: l.Hash} // so that one change is not found again in every later row
	if v.wanted[row.Number] {
		v.hashes[row.Number] = actual
	}
}

// finish compares the end with the header, and the rows with what is known from elsewhere.
func (v *verifier) finish(known []Witness) {
	h := v.report.Head
	switch {
	case v.previous.Number < h.Number:
		v.find(h.Number, "rows %d to %d are missing", v.previous.Number+1, h.Number)
	case v.previous.Number == h.Number && v.previous.Hash != h.Hash:
		v.find(h.Number, "row %d is not the one that was written last", h.Number)
	case v.previous.Number > h.Number:
		v.find(v.previous.Number, "there are rows after row %d, which was written last", h.Number)
	}
	for _, w := range known {
		hash, there := v.hashes[w.Number]
		switch {
		case w.Number > v.previous.Number:
			v.find(w.Number, "%s ends with row %d, and the audit with row %d", w.From, w.Number, v.previous.Number)
		case !there: // cut, or missing and found above
		case hash != w.Hash:
			v.find(w.Number, "row %d is not the one that %s ends with: it, or rows before it, were replaced", w.Number,
				w.From)
		default:
			v.report.Compared++
		}
	}
}
