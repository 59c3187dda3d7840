package plane

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The event reader accepts what the standard allows, and returns nothing else.
func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []event
	}{
		"an event":       {"event: desired\nid: \"1\"\ndata: {}\n\n", []event{{"desired", `"1"`, []byte("{}")}}},
		"without spaces": {"event:desired\nid:1\ndata:{}\n\n", []event{{"desired", "1", []byte("{}")}}},
		"lines of data":  {"data: a\ndata: b\n\n", []event{{"message", "", []byte("a\nb")}}},
		"CR LF":          {"event: desired\r\ndata: {}\r\n\r\n", []event{{"desired", "", []byte("{}")}}},
		"a heartbeat":    {":\n\n:\n\n", []event{{}, {}}},
		"without data":   {"event: desired\nid: 1\n\ndata: x\n\n", []event{{"message", "", []byte("x")}}},
		"fields unknown": {"colour: red\nevent: desired\ndata: {}\nnothing\n\n",
			[]event{{"desired", "", []byte("{}")}}},
		"cut off": {"event: desired\ndata: {}\n", nil},
	} {
		s := newEventReader(t.Context(), strings.NewReader(c.text), func() {})
		var got []event
		for {
			e, err := s.readEvent()
			if err != nil {
				break
			}
			e.data = slices.Clone(e.data)
			got = append(got, e)
		}
		if !slices.EqualFunc(got, c.want, func(a, b event) bool {
			return a.name == b.name && a.id == b.id && string(a.data) == string(b.data)
		}) {
			t.Errorf("%s: %q is read as %+v", name, c.text, got)
		}
	}
	s := newEventReader(t.Context(), strings.NewReader("retry: 2000\n\n"), func() {})
	if _, err := s.readEvent(); err == nil || s.retry < 2*time.Second || s.retry > 3*time.Second {
		t.Errorf("retry: %s", s.retry)
	}
}

func FuzzServerSentEvents(f *testing.F) {
	f.Add([]byte("event: desired\nid: \"1\"\ndata: {}\n\n:\n\nretry: 5\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := newEventReader(t.Context(), strings.NewReader(string(text)), func() {})
		for range len(text) + 1 {
			e, err := s.readEvent()
			if err != nil {
				return
			}
			if len(e.data) > MaxDesired || s.retry < 0 || s.retry > 2*maxStreamRetry {
				t.Fatal(strconv.Itoa(len(e.data)), s.retry)
			}
		}
		t.Fatal("more events than bytes")
	})
}
