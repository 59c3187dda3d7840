package controlplane_test

import (
	"crypto/tls"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/roster"
)

// startingMembers become fresh right after the first call.
type startingMembers struct {
	*members
	calls atomic.Int32
}

func (b *startingMembers) CheckFresh() error {
	if b.calls.Add(1) == 1 {
		return engine.ErrNotReady
	}
	return b.members.CheckFresh()
}

func (b *startingMembers) Roster() *roster.Roster {
	if b.calls.Add(1) == 1 {
		return roster.New(nil)
	}
	return b.members.Roster()
}

// A cell that polls just while a replica starts is not refused as unknown: it would stay away for five minutes (R33).
func TestStartingReplicaDeniesNoCell(t *testing.T) {
	t.Parallel()
	begin := &startingMembers{}
	f := newFleet(t, 1, func(o *controlplane.Options) {
		begin.members = o.Members.(*members)
		o.Members = begin
	})
	begin.calls.Store(-1) // the handshake looks the key up first
	client := http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{Certificates: f.certs, InsecureSkipVerify: true}}} //nolint:gosec // a test's
	defer client.CloseIdleConnections()
	for _, want := range []int{http.StatusServiceUnavailable, http.StatusOK} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+f.addr+"/v1/desired", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("the answer is %s, want %d", answer.Status, want)
		}
	}
}
