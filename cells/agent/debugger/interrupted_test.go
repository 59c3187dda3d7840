package debugger

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
)

// receiver is a control plane that takes one record.
type receiver struct {
	seal   chan debug.SignedSeal
	record string
}

func (r *receiver) RoundTrip(q *http.Request) (*http.Response, error) {
	seal, err := upgrade.Decode[debug.SignedSeal](q.Header.Get(debug.SealHeader))
	if err != nil {
		return nil, err
	}
	unpacked, err := zstd.NewReader(q.Body)
	if err != nil {
		return nil, err
	}
	defer unpacked.Close()
	text, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, err
	}
	r.record = string(text)
	r.seal <- seal
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
}

// D2, D3: a session in which the agent was killed is over: the next agent ends what it left running, seals its record
// and sends both. The permission is spent.
func TestD2AgentKilledInSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Shell, func(p *debug.Permission) { p.KeepChanges = true })
	now, err := moment()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.folder.Begin(f.id, now, time.Now()); err != nil {
		t.Fatal(err)
	}
	written := "{\"version\":2}\n[0.1, \"o\", \"half a li"
	if err := os.WriteFile(f.folder.RecordPath(f.id), []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	left := exec.Command("sleep", "600")
	left.Env = []string{sessionVariable + "=" + f.id}
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan error, 1)
	go func() { dead <- left.Wait() }()
	t.Cleanup(func() { _ = left.Process.Kill() })

	public, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	server := &receiver{seal: make(chan debug.SignedSeal, 1)}
	d := New(Options{StateDir: f.stateDir, Cell: "acme", Identity: func() ed25519.PrivateKey { return identity },
		Transport: server, Now: time.Now, Log: zerolog.Nop()})
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		d.Run(ctx)
		close(over)
	}()
	var signed debug.SignedSeal
	for _, wait := range []func() bool{
		func() bool { return <-dead != nil },
		func() bool { signed = <-server.seal; return true },
	} {
		done := make(chan bool, 1)
		go func() { done <- wait() }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("what was left goes on, or no record is sent")
		}
	}
	stop()
	<-over
	seal, err := signed.Open(public)
	if err != nil {
		t.Fatal(err)
	}
	hash, length, err := f.folder.HashRecord(f.id)
	if err != nil || seal.Hash != hash || seal.Length != length || server.record != written ||
		seal.Why != "the agent was interrupted in the session" {
		t.Errorf("%+v of %q (%v)", seal, server.record, err)
	}
	if why := d.HealingWaits(time.Now()); why == "" { // D7
		t.Error("what the session changed is healed, though the owner approved that it is kept")
	}
	if _, err := f.folder.Begin(f.id, now, time.Now()); !errors.Is(err, debugfolder.ErrUsed) {
		t.Errorf("the permission serves again: %v", err)
	}
}

// D3: a session that did not begin, though its permission was marked as used, is over, and does not count as live until
// its time ends. One whose permission was not used may be tried again.
func TestD3SessionThatFailedToBegin(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Shell, nil)
	e, err := f.folder.Load(f.id)
	if err != nil {
		t.Fatal(err)
	}
	d, full := f.restart(t), errors.New("the disk is full")
	if err := d.sealUnbegun(t.Context(), e, full); !errors.Is(err, full) {
		t.Errorf("a session that may still begin: %v", err)
	}
	if err := os.WriteFile(f.folder.RecordPath(f.id), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.session.permit.begin(); err != nil { // the file is there, and may not survive a power loss
		t.Fatal(err)
	}
	if err := d.sealUnbegun(t.Context(), e, full); err != nil {
		t.Error(err)
	}
	now, err := moment()
	if err != nil {
		t.Fatal(err)
	}
	e, err = f.folder.Load(f.id)
	if err != nil || e.Seal == nil || e.State(now, time.Now()) != debugfolder.Ended {
		t.Fatalf("it is %s (%v)", e.State(now, time.Now()), err)
	}
	seal, err := e.Seal.Open(d.options.Identity().Public().(ed25519.PublicKey))
	if err != nil || seal.Length != 3 || !strings.HasPrefix(seal.Why, "it did not begin") {
		t.Errorf("%+v (%v)", seal, err)
	}
}
