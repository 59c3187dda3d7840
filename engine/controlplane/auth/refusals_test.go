package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// A caller's first refusal is a row at once, and what follows is one row of each window, until there is nothing more.
func TestRefusalsOfOneCaller(t *testing.T) {
	t.Parallel()
	var tally refusalTally
	row, first := tally.add("ada", "GET /v1/audit", "192.0.2.1:1", noon)
	want := access.Entry{At: noon, Who: "ada", What: "was refused: GET /v1/audit", From: "192.0.2.1:1"}
	if !first || row != want {
		t.Fatalf("%+v, %t", row, first)
	}
	for n := range 5 {
		if _, first := tally.add("ada", "GET /v1/audit", fmt.Sprintf("192.0.2.2:%d", n), noon); first {
			t.Error("a second row in the window")
		}
	}
	for n := range 20 {
		tally.add("ada", fmt.Sprintf("DELETE /v1/tokens/%d", n), "192.0.2.3:1", noon)
	}
	if rows, next := tally.end(noon.Add(refusalWindow - 1)); len(rows) != 0 || !next.Equal(noon.Add(refusalWindow)) {
		t.Errorf("before the window's end: %v, next %s", rows, next)
	}
	end := noon.Add(refusalWindow)
	rows, next := tally.end(end)
	if len(rows) != 1 || rows[0].Who != "ada" || rows[0].From != "192.0.2.3:1" || !rows[0].At.Equal(end) ||
		!next.Equal(end.Add(refusalWindow)) {
		t.Fatalf("%+v, next %s", rows, next)
	}
	for _, says := range []string{"was refused 25 times more since 2026-11-24T12:00:00Z: GET /v1/audit (5)",
		"DELETE /v1/tokens/6 (1); others (13)"} {
		if !strings.Contains(rows[0].What, says) {
			t.Errorf("%q lacks %q", rows[0].What, says)
		}
	}
	if _, first := tally.add("ada", "GET /v1/audit", "", end); first {
		t.Error("the window that follows is not open")
	}
	if rows, _ := tally.end(end.Add(refusalWindow)); len(rows) != 1 || !strings.Contains(rows[0].What, "1 time more") {
		t.Errorf("%+v", rows)
	}
	if rows, next := tally.end(end.Add(2 * refusalWindow)); len(rows) != 0 || !next.IsZero() || len(tally.open) != 0 {
		t.Errorf("after a quiet window: %v, next %s, open %v", rows, next, tally.open)
	}
}

// However many callers are refused, and whatever they are called, a day has a bounded number of rows, each is short,
// and every refusal is counted in one of them.
func TestRefusalsAreFewRows(t *testing.T) {
	t.Parallel()
	var tally refusalTally
	rows, counted := 0, 0
	keep := func(all ...access.Entry) {
		for _, e := range all {
			rows++
			if len(e.What) > (maxRefusedKinds+1)*(maxRefusedWhat+20) {
				t.Errorf("%d bytes", len(e.What))
			}
			n := 1
			if _, err := fmt.Sscanf(e.What, "was refused %d", &n); err != nil && !strings.HasPrefix(e.What, "was refused:") {
				t.Errorf("%q", e.What)
			}
			counted += n
		}
	}
	const each, hours = 40, 24
	n := 0
	for minute := range hours * 60 {
		now := noon.Add(time.Duration(minute) * time.Minute)
		due, _ := tally.end(now)
		keep(due...)
		for range each {
			n++
			who := fmt.Sprintf("caller-%d", n)
			switch n % 4 {
			case 0:
				who = whoWrongToken
			case 1:
				who = whoNoRole
			}
			if row, first := tally.add(who, strings.Repeat("x", n%5000)+fmt.Sprint(n), "", now); first {
				keep(row)
			}
		}
	}
	due, _ := tally.end(noon.Add((hours + 1) * time.Hour))
	keep(due...)
	if counted != n {
		t.Errorf("%d refusals, and %d in rows", n, counted)
	}
	if most := (maxRefused + 3) * (hours*6 + 1); rows > most {
		t.Errorf("%d rows in a day, more than %d", rows, most)
	}
	// Strangers are counted even while all other rows are taken.
	full := refusalTally{}
	for n := range maxRefused + 5 {
		full.add(fmt.Sprint(n), "GET /", "", noon)
	}
	if row, first := full.add(whoWrongToken, "GET /", "", noon); !first || row.Who != whoWrongToken {
		t.Errorf("%+v", row)
	}
}
