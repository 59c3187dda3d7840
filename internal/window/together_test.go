package window

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Of several windows, the one that is open longest counts, or else the one that opens first.
func TestJudgeAny(t *testing.T) {
	all := []Window{{Opens: "0 9 * * *", For: time.Hour}, {Opens: "30 9 * * *", For: 2 * time.Hour}}
	for now, want := range map[string]string{"08:00": "shut 09:00", "09:15": "open 10:00", "09:45": "open 11:30",
		"11:45": "shut 09:00"} {
		at, err := time.Parse("15:04", now)
		if err != nil {
			t.Fatal(err)
		}
		open, _, until := JudgeAny(all, at.AddDate(2026, 0, 0))
		got := map[bool]string{true: "open ", false: "shut "}[open] + until.Format("15:04")
		if got != want {
			t.Errorf("at %s: %s, want %s", now, got, want)
		}
	}
}

// R55: NextTogether finds the first instant at which all lists are open, as a walk from change to change finds it.
func TestR55NextTogetherIsTheFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lists := make([][]Window, rapid.IntRange(1, 3).Draw(t, "gates"))
		for i := range lists {
			for range rapid.IntRange(1, 2).Draw(t, "windows") {
				w, _ := drawWindow(t)
				lists[i] = append(lists[i], *w)
			}
		}
		from := drawInstant(t, time.UTC)
		found, ok := NextTogether(lists, from)
		at := from
		for range 200 {
			all, next := true, time.Time{}
			for _, list := range lists {
				open, _, until := JudgeAny(list, at)
				all = all && open
				if !until.IsZero() && (next.IsZero() || until.Before(next)) {
					next = until
				}
			}
			if at.Sub(from) > maxTogether {
				break // nothing is looked for so far ahead
			}
			if all {
				if !ok || !found.Equal(at) {
					t.Fatalf("from %s: found %s %v, want %s", from, found, ok, at)
				}
				return
			}
			if next.IsZero() || ok && at.After(found) {
				t.Fatalf("from %s: found %s %v, and at %s not all are open", from, found, ok, at)
			}
			at = next
		}
		if ok && found.Before(at) {
			t.Fatalf("from %s: found %s, and until %s not all are open", from, found, at)
		}
	})
}
