package adoption

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"

	"github.com/sluice-cd/sluice/engine/view"
)

// A day is written as a JSON string of numbers in base64, since a page of a month reads thirty of them: as an object
// they took most of the page's time.

// layout begins every day, so that one of another version is known as such.
const layout = 1

var errOtherVersion = errors.New("a day of another version")

// MarshalJSON writes the day.
func (d *Day) MarshalJSON() ([]byte, error) {
	b := []byte{layout}
	number := func(n int) { b = binary.AppendUvarint(b, uint64(n)) } //nolint:gosec // never negative
	text := func(s string) {
		number(len(s))
		b = append(b, s...)
	}
	number(d.Until)
	number(d.Step)
	number(len(d.Kinds))
	for _, k := range d.Kinds {
		text(k.Release)
		text(string(k.Condition))
	}
	number(len(d.Points))
	last := 0
	for _, p := range d.Points {
		number(p.Minute - last)
		number(len(p.Counts))
		for _, n := range p.Counts {
			number(n)
		}
		last = p.Minute
	}
	return append(base64.RawStdEncoding.AppendEncode([]byte{'"'}, b), '"'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote, and what it wrote before layouts had numbers.
func (d *Day) UnmarshalJSON(body []byte) error {
	if len(body) > 0 && body[0] == '{' {
		return d.readObject(body)
	}
	if n := len(body); n < 2 || body[0] != '"' || body[n-1] != '"' {
		return errOtherVersion
	}
	b, err := base64.RawStdEncoding.AppendDecode(nil, body[1:len(body)-1])
	if err != nil || len(b) == 0 || b[0] != layout {
		return errOtherVersion
	}
	r := reader{rest: b[1:]}
	*d = Day{Until: r.number(), Step: r.number()}
	d.Kinds = make([]Kind, 0, r.count(2))
	for range cap(d.Kinds) {
		d.Kinds = append(d.Kinds, Kind{r.text(), view.Condition(r.text())})
	}
	d.Points = make([]Point, 0, r.count(2))
	minute, counts := 0, make([]int, 0, len(r.rest)) // every count takes a byte
	for range cap(d.Points) {
		minute += r.number()
		p := Point{Minute: minute}
		if n := r.count(1); n > 0 {
			from := len(counts)
			for range n {
				counts = append(counts, r.number())
			}
			p.Counts = counts[from:len(counts):len(counts)]
		}
		d.Points = append(d.Points, p)
	}
	if r.failed || len(r.rest) > 0 {
		return errOtherVersion
	}
	return nil
}

// readObject reads a day as it was first written, for as long as one is kept.
func (d *Day) readObject(body []byte) error {
	var o struct {
		Kinds []struct {
			Release   string         `json:"release"`
			Condition view.Condition `json:"condition"`
		} `json:"kinds"`
		Points []struct {
			Minute int   `json:"m"`
			Counts []int `json:"n"`
		} `json:"points"`
		Until int `json:"until"`
		Step  int `json:"step"`
	}
	if json.Unmarshal(body, &o) != nil || len(o.Points) == 0 || isNoCount(o.Until) || isNoCount(o.Step) {
		return errOtherVersion
	}
	all := Day{Until: o.Until, Step: o.Step}
	for _, k := range o.Kinds {
		all.Kinds = append(all.Kinds, Kind(k))
	}
	last := 0
	for _, p := range o.Points {
		if p.Minute < last || len(p.Counts) > len(o.Kinds) || isNoCount(p.Minute) ||
			slices.ContainsFunc(p.Counts, isNoCount) {
			return errOtherVersion
		}
		all.Points, last = append(all.Points, Point(p)), p.Minute
	}
	*d = all
	return nil
}

func isNoCount(n int) bool { return n < 0 || n > 1<<31 }

// reader reads numbers and texts. After a fault it returns zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) number() int {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > 1<<31 {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return int(n)
}

// count returns how many things follow, of which each takes so many bytes at least.
func (r *reader) count(each int) int {
	n := r.number()
	if n > len(r.rest)/each {
		r.failed, r.rest = true, nil
		return 0
	}
	return n
}

func (r *reader) text() string {
	n := r.count(1)
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}
