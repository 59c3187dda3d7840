package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
)

// flagging tests what a store keeps for flags.
func flagging() map[string]func(t *testing.T, open Open) {
	return map[string]func(t *testing.T, open Open){
		"a kill is kept until it is forgotten, long after it landed (R43)": kills,
		"whoever does not lead may kill (R43)":                             killsWithoutLease,
		"of two kills of one flag the later counts":                        killedAgain,
		"the flags repository's mark is one":                               flagsMark,
		"what a plan told the next is kept":                                flagsMemory,
		"an event is posted once, across crashes (fault 3)":                postedOnce,
		"of many who post an event one does":                               postRace,
		"a message is due until it is sent or given up":                    delivered,
		"the outbox forgets what is old":                                   outboxForgets,
		"no target's messages keep others from being due":                  dueToAll,
		"what a cell says of flags is kept":                                flagsReport,
	}
}

func kill(id, flag string) plan.Kill {
	return plan.Kill{ID: id, At: noon, Override: repository.Override{
		APIVersion: "sluice/v1", Kind: repository.Kill, Flag: flag, Reason: "broken", By: "ada",
		Until: noon.Add(time.Hour), Name: "kill-" + flag,
	}}
}

func wantKills(t *testing.T, s Store, what string, want ...plan.Kill) {
	t.Helper()
	got, err := s.Kills(t.Context())
	must(t, err)
	wantSame(t, what, want, got)
}

func kills(t *testing.T, open Open) {
	h := newManualClock()
	s, ctx := openedAt(t, open, h.timeNow), t.Context()
	wantKills(t, s, "at first")
	must(t, s.Kill(ctx, kill("k2", "gateway")))
	must(t, s.Kill(ctx, kill("k1", "classes")))
	must(t, s.Kill(ctx, kill("k1", "classes")))
	s = reopenAt(t, s, open, h.timeNow)
	wantKills(t, s, "by flag", kill("k1", "classes"), kill("k2", "gateway"))
	must(t, s.MarkKillLanded(ctx, "k2", "77aa"))
	must(t, s.MarkKillLanded(ctx, "unknown", "77aa"))
	landed := kill("k2", "gateway")
	landed.Landed = "77aa"
	wantKills(t, s, "one landed", kill("k1", "classes"), landed)
	h.advance(time.Hour)
	landed.Landed = "4f0c"
	must(t, s.MarkKillLanded(ctx, "k2", "4f0c"))
	wantKills(t, s, "it landed again, after a force-push", kill("k1", "classes"), landed)
	h.advance(30 * 24 * time.Hour)
	must(t, s.MarkKillLanded(ctx, "k1", "4f0c"))
	last := kill("k1", "classes")
	last.Landed = "4f0c"
	wantKills(t, s, "the one that landed long ago is forgotten", last)
}

func killsWithoutLease(t *testing.T, open Open) {
	a, b := opened(t, open), opened(t, open)
	if _, led, err := a.AcquireLease(t.Context(), time.Minute); err != nil || !led {
		t.Fatal(led, err)
	}
	if _, led, err := b.AcquireLease(t.Context(), time.Minute); err != nil || led {
		t.Fatal(led, err)
	}
	must(t, b.Kill(t.Context(), kill("k1", "gateway")))
	wantKills(t, a, "for all to see", kill("k1", "gateway"))
}

func killedAgain(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	must(t, s.Kill(ctx, kill("k1", "gateway")))
	must(t, s.Kill(ctx, kill("k2", "gateway")))
	must(t, s.MarkKillLanded(ctx, "k1", "77aa"))
	wantKills(t, s, "the first one's landing says nothing of the second", kill("k2", "gateway"))
	must(t, s.MarkKillLanded(ctx, "k2", "77aa"))
	must(t, s.Kill(ctx, kill("k3", "gateway")))
	wantKills(t, s, "killed again after it was lifted", kill("k3", "gateway"))
}

func flagsMark(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	m, err := s.FlagsMark(ctx)
	must(t, err)
	wantSame(t, "at first", plan.FlagsMark{}, m)
	want := plan.FlagsMark{Commit: "77aa", Height: 7, Diverged: &plan.Divergence{Seen: "77aa", Tip: "4f0c", At: noon}}
	must(t, s.SetFlagsMark(ctx, want))
	s = reopen(t, s, open)
	m, err = s.FlagsMark(ctx)
	must(t, err)
	wantSame(t, "kept", want, m)
	want.Diverged = nil
	must(t, s.SetFlagsMark(ctx, want))
	m, err = s.FlagsMark(ctx)
	must(t, err)
	wantSame(t, "acknowledged", want, m)
	if o := observed(t, s); o.Seen != "" || o.Diverged != nil {
		t.Errorf("the release repository's is another: %+v", o)
	}
}

func flagsMemory(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	m, err := s.FlagsMemory(ctx)
	must(t, err)
	wantSame(t, "at first", announce.Memory{}, m)
	want := announce.Memory{
		Served:  map[string]announce.Served{"staging": {Flags: "sha256:00", Since: noon}, "test": {Flags: "sha256:01"}},
		Ongoing: map[string]announce.Event{"killed/gateway": message("killed/gateway", "").Event},
		Lifted:  map[string]int{"gateway": 1},
	}
	must(t, s.SetFlagsMemory(ctx, want))
	s = reopen(t, s, open)
	m, err = s.FlagsMemory(ctx)
	must(t, err)
	wantSame(t, "kept", want, m)
}

func message(event, webhook string) plan.Message {
	e := announce.Event{ID: event, Type: "published", Announcement: "classes", Channel: "dedicated", At: noon,
		Text: "classes is published"}
	return plan.Message{Event: e, Webhook: webhook, Posted: noon, Next: noon}
}

func wantPosted(t *testing.T, s Store, what string, messages []plan.Message, want ...string) {
	t.Helper()
	fresh, err := s.PostMessages(t.Context(), messages)
	must(t, err)
	slices.Sort(fresh)
	wantSame(t, what, want, fresh)
}

func wantDue(t *testing.T, s Store, what string, now time.Time, want ...plan.Message) {
	t.Helper()
	got, err := s.DueMessages(t.Context(), now, 10)
	must(t, err)
	wantSame(t, what, want, got)
}

func postedOnce(t *testing.T, open Open) {
	s := opened(t, open)
	wantPosted(t, s, "none", nil)
	wantPosted(t, s, "at first", []plan.Message{message("e1", "chat"), message("e2", ""), message("e1", "mail")}, "e1",
		"e2")
	s = reopen(t, s, open)
	wantPosted(t, s, "again, for others too", []plan.Message{message("e1", "chat"), message("e1", "later"),
		message("e2", "later"), message("e3", "")}, "e3")
	wantDue(t, s, "what is for somebody", noon, message("e1", "chat"), message("e1", "mail"))
}

func postRace(t *testing.T, open Open) {
	s := opened(t, open)
	var mu sync.Mutex
	var all []string
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			fresh, err := s.PostMessages(t.Context(), []plan.Message{message("e1", "chat")})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			all = append(all, fresh...)
		})
	}
	wg.Wait()
	wantSame(t, "posted", []string{"e1"}, all)
}

func delivered(t *testing.T, open Open) {
	h := newManualClock()
	s, ctx := openedAt(t, open, h.timeNow), t.Context()
	first, second := message("e1", "chat"), message("e2", "chat")
	second.Next = noon.Add(time.Second)
	wantPosted(t, s, "both", []plan.Message{second, first}, "e1", "e2")
	wantDue(t, s, "nothing is due yet", noon.Add(-time.Second))
	wantDue(t, s, "one is", noon, first)
	must(t, s.Postpone(ctx, first, noon.Add(time.Minute), "503"))
	first.Attempts, first.Next, first.Why = 1, noon.Add(time.Minute), "503"
	s = reopenAt(t, s, open, h.timeNow)
	wantDue(t, s, "the other is now", noon.Add(time.Minute-time.Second), second)
	must(t, s.MarkSent(ctx, second))
	wantDue(t, s, "the first again", noon.Add(time.Minute), first)
	must(t, s.Postpone(ctx, first, time.Time{}, "410"))
	wantDue(t, s, "none any more", noon.Add(time.Hour))
	first.Attempts, first.Next, first.Why = 2, time.Time{}, "410"
	second.Next, second.Sent = time.Time{}, noon
	got, err := s.Messages(ctx, 10)
	must(t, err)
	wantSame(t, "shown, newest first", []plan.Message{first, second}, got)
	got, err = s.Messages(ctx, 1)
	must(t, err)
	wantSame(t, "the newest", []plan.Message{first}, got)
}

// However many messages of one target are due, those of others are read too.
func dueToAll(t *testing.T, open Open) {
	s := opened(t, open)
	var all []plan.Message
	for n := range 300 {
		all = append(all, message(fmt.Sprintf("e%03d", n), "busy"))
	}
	last := message("last", "quiet")
	last.Next, last.Notice = noon.Add(time.Second), json.RawMessage(`{"id":"last"}`)
	fresh, err := s.PostMessages(t.Context(), append(all, last))
	must(t, err)
	if len(fresh) != 301 {
		t.Fatalf("posted %d", len(fresh))
	}
	due, err := s.DueMessages(t.Context(), noon.Add(time.Hour), 10)
	must(t, err)
	if len(due) != 10 || due[0].Event.ID != "e000" || due[1].Event.ID != "last" || due[2].Event.ID != "e001" {
		t.Errorf("due: %+v", due)
	}
	of, err := s.EventMessages(t.Context(), "last")
	must(t, err)
	wantSame(t, "of the event", []plan.Message{last}, of)
	of, err = s.EventMessages(t.Context(), "none")
	if err != nil || len(of) != 0 {
		t.Errorf("of no event: %+v (%v)", of, err)
	}
}

func outboxForgets(t *testing.T, open Open) {
	h := newManualClock()
	s := openedAt(t, open, h.timeNow)
	wantPosted(t, s, "at first", []plan.Message{message("e1", "chat")}, "e1")
	h.advance(plan.OutboxMemory + time.Hour)
	wantPosted(t, s, "still known", []plan.Message{message("e1", "chat")})
	wantDue(t, s, "it is not tried for ever", h.timeNow())
	h.advance(2 * plan.OutboxMemory)
	for n := range 3 {
		m := message(fmt.Sprint("late", n), "chat")
		m.Posted, m.Next = h.timeNow(), h.timeNow()
		wantPosted(t, s, "another", []plan.Message{m}, m.Event.ID)
	}
	wantPosted(t, s, "forgotten: who posts must not post what is that old", []plan.Message{message("e1", "")}, "e1")
}

func flagsReport(t *testing.T, open Open) {
	s := opened(t, open)
	c := state("acme", 1)
	c.Flags = &cells.FlagsReport{Height: 7, Bundle: digest(1), Orders: digest(2),
		States: map[string]flags.CellState{"classes": flags.On, "gateway": flags.Suspended}, Fault: "<late>"}
	must(t, report(t, s, plan.Reported{State: c}))
	s = reopen(t, s, open)
	wantSame(t, "the cell", c, observed(t, s).Cells["acme"])
}
