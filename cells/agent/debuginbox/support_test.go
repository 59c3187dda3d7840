package debuginbox

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/channels/trust"
)

// signersWord is what an inbox hears of release signers, which a test sets.
type signersWord struct {
	signers Signers
	err     error
}

func (w *signersWord) ask(context.Context) (Signers, error) { return w.signers, w.err }

func (w *signersWord) name(t *testing.T, all ...debug.SignedRequest) {
	t.Helper()
	w.signers = Signers{Bind: true}
	for _, s := range all {
		r, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		w.signers.Keys = append(w.signers.Keys, trust.SupportKey{Name: r.Person, Key: r.Key})
	}
}

// signedInbox is an inbox of a cell with a root of trust.
type signedInbox struct {
	*Inbox
	plane  *plane
	word   *signersWord
	folder debugfolder.Folder
	now    time.Time
}

func newSignedInbox(t *testing.T) *signedInbox {
	s := &signedInbox{plane: &plane{}, word: &signersWord{}, now: time.Now()}
	dir := t.TempDir()
	s.folder = debugfolder.Of(dir)
	s.Inbox = New(Options{StateDir: dir, Cell: "acme", Fetch: s.plane.fetch, AskSigners: s.word.ask,
		Now: func() time.Time { return s.now }, Log: zerolog.Nop()})
	return s
}

// hear has the inbox hear of requests, as if the control plane had none before.
func (s *signedInbox) hear(t *testing.T, all ...debug.SignedRequest) {
	s.plane.requests = all
	s.SetDesired(strings.Repeat("x", s.plane.asked+1))
	s.pass(t, time.Second)
}

func (s *signedInbox) pass(t *testing.T, d time.Duration) {
	s.now = s.now.Add(d)
	s.turn(t.Context(), s.now)
}

// D4: a control plane that was taken over names a key of its own as a person's. The cell refuses it, and says so.
func TestSignersNameWhoMayAsk(t *testing.T) {
	t.Parallel()
	s := newSignedInbox(t)
	mine, evil := ask(t, nil), ask(t, nil)
	other := ask(t, func(r *debug.Request) { r.Person = "mallory" })
	s.word.name(t, mine, other)
	s.word.signers.Keys[1].Name = "grace" // the key is hers
	s.hear(t, mine, evil, other)
	all, err := s.folder.List()
	if err != nil || len(all) != 1 || all[0].ID != mine.ID() || all[0].Vouched != "ada" {
		t.Fatal(all, err)
	}
	said := map[string]cells.DebugState{}
	for _, d := range s.Report() {
		said[d.ID] = d
	}
	if len(said) != 3 || said[mine.ID()].State != "open" || !said[mine.ID()].Vouched ||
		said[evil.ID()].State != "denied" || !strings.Contains(said[evil.ID()].Why, "the cell refused it") ||
		!strings.Contains(said[other.ID()].Why, "as that of grace, not of mallory") {
		t.Errorf("%+v", said)
	}
	s.word.name(t, mine, evil) // the signers did, in the end
	s.pass(t, idleLook)
	if all, err := s.folder.List(); err != nil || len(all) != 2 {
		t.Error("a key that was named later is refused for good", all, err)
	}
}

// While it can't be verified who may ask, no request is taken: neither where files are withheld, nor where no signer
// named any key.
func TestUnverifiedIsRefused(t *testing.T) {
	t.Parallel()
	s := newSignedInbox(t)
	s.word.err = errors.New("the timestamp file: expired")
	mine := ask(t, nil)
	s.hear(t, mine)
	if len(s.Report()) != 0 || s.retryAt.IsZero() {
		t.Fatal(s.Report())
	}
	s.word.err = nil
	s.word.name(t)
	s.pass(t, idleLook)
	if d := s.Report(); len(d) != 1 || d[0].State != "denied" {
		t.Fatal(d)
	}
	s.word.name(t, mine)
	s.pass(t, idleLook)
	if !slices.Equal(states(s.Inbox), []string{"open"}) {
		t.Fatal(s.Report())
	}
	s.word.err = errors.New("down") // what was taken stays
	s.pass(t, idleLook)
	s.pass(t, idleLook)
	if !slices.Equal(states(s.Inbox), []string{"open"}) {
		t.Error(s.Report())
	}
}

// D2: a key's end does not wait for a control plane that is slow to answer.
func TestKeyEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, w, dir := &plane{}, &signersWord{}, t.TempDir()
		live := ask(t, nil)
		w.name(t, live)
		w.signers.Keys[0].Until = time.Now().Add(10 * time.Minute)
		folder, slow := debugfolder.Of(dir), func() {}
		i := New(Options{StateDir: dir, Cell: "acme", Now: time.Now, Log: zerolog.Nop(),
			Fetch: func(ctx context.Context) (debug.Requests, error) {
				slow()
				return p.fetch(ctx)
			},
			AskSigners: func(ctx context.Context) (Signers, error) {
				slow()
				return w.ask(ctx)
			}})
		p.requests = []debug.SignedRequest{live}
		i.SetDesired("1")
		i.turn(t.Context(), time.Now())
		if err := folder.Approve(live.ID(), debug.Permission{Made: moment(), For: time.Hour}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := folder.Begin(live.ID(), moment(), time.Now()); err != nil {
			t.Fatal(err)
		}
		i.turn(t.Context(), time.Now())
		waited := false
		slow = func() {
			if waited {
				return
			}
			if err := folder.MustEnd(live.ID()); err != nil {
				t.Error("the session ends too early", err)
			}
			waited = true
			time.Sleep(time.Until(w.signers.Keys[0].Until) + 2*restlessLook)
			if err := folder.MustEnd(live.ID()); err == nil {
				t.Error("a session outlives its key's time while the control plane is waited for")
			}
		}
		i.SetDesired("2")
		i.turn(t.Context(), time.Now())
		if !waited {
			t.Error("the control plane was not asked")
		}
	})
}

// D2: a key that signers name no more ends what it asked for: requests that wait, permissions, and sessions.
func TestRemovedKeyEndsAll(t *testing.T) {
	t.Parallel()
	s := newSignedInbox(t)
	open, permitted, live, stays := ask(t, nil), ask(t, nil), ask(t, nil), ask(t, nil)
	s.word.name(t, open, permitted, live, stays)
	s.hear(t, open, permitted, live, stays)
	for _, r := range []debug.SignedRequest{permitted, live, stays} {
		if err := s.folder.Approve(r.ID(), debug.Permission{Made: moment(), For: time.Hour}, s.now); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []debug.SignedRequest{live, stays} {
		if _, err := s.folder.Begin(r.ID(), moment(), s.now); err != nil {
			t.Fatal(err)
		}
	}
	s.pass(t, signersFor)
	if err := s.folder.MustEnd(live.ID()); err != nil {
		t.Fatal("a session whose key is named has to end", err)
	}
	s.word.name(t, stays)
	s.pass(t, signersFor)
	for _, r := range []debug.SignedRequest{open, permitted} {
		e, err := s.folder.Load(r.ID())
		if err != nil || e.Denied == nil || !strings.Contains(e.Denied.Reason, "support key") {
			t.Errorf("%+v %v", e, err)
		}
	}
	if _, err := s.folder.Begin(permitted.ID(), moment(), s.now); err == nil {
		t.Error("a session began by a key that signers name no more")
	}
	if err := s.folder.MustEnd(live.ID()); err == nil || !strings.Contains(err.Error(), "no such support key of ada") {
		t.Error("the session goes on", err)
	}
	if err := s.folder.MustEnd(stays.ID()); err != nil {
		t.Error("another person's session ends", err)
	}
	if n := len(s.Report()); n != 4 {
		t.Error("requests are reported twice", s.Report())
	}
	i := slices.IndexFunc(s.word.signers.Keys, func(k trust.SupportKey) bool { return k.Name == "ada" })
	s.word.signers.Keys[i].Until = s.now.Add(time.Second) // by the cell's clock, though the control plane is down
	s.pass(t, signersFor)
	if err := s.folder.MustEnd(stays.ID()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error("a session outlives its key's time", err)
	}
}
