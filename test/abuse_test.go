package test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/test/swarm"
)

// requestTimeout bounds each request of these tests, generously since the machine is shared.
const requestTimeout = 30 * time.Second

func (f *fleet) dialReplica(m swarm.Member, replica int) *swarm.Conn {
	f.t.Helper()
	dialer, err := swarm.NewDialer(f.plane, []swarm.Member{m})
	if err != nil {
		f.t.Fatal(err)
	}
	link, err := dialer.Dial(f.t.Context(), 0, replica)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(link.Close)
	return link
}

// reportBody returns the body of a report without news, with a message of more bytes.
func reportBody(t *testing.T, cell string, more int) []byte {
	t.Helper()
	body, err := json.Marshal(cells.Report{Cell: cell, Boot: "a", Sent: time.Now(), State: cells.StatePending,
		Message: strings.Repeat("x", more)})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// Fault 40: a flood of reports from one cell is answered 429 with Retry-After, while each report of another cell is
// accepted. A body over 64 KiB is answered 413, a report for another cell 403. A revoked cell is shut out on both
// replicas: its streams are closed, and its requests are answered 401.
func TestFloodForgeryAndRevocation(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 0, 2, entryPolicy)
	flooder, other, leaver := f.members[0], f.members[1], f.members[2]
	post := func(l *swarm.Conn, body []byte) (swarm.ResponseHead, []byte) {
		t.Helper()
		a, text, err := l.RoundTrip(requestTimeout, http.MethodPost, "/v1/reports", "", body)
		if err != nil {
			t.Fatal(err)
		}
		return a, text
	}

	stop := make(chan struct{})
	var flood sync.WaitGroup
	var limited, accepted int
	link := f.dialReplica(flooder, 0)
	begun := make(chan struct{})
	flood.Go(func() {
		body := reportBody(t, flooder.Name, 0)
		for n := 0; ; n++ {
			a, text, err := link.RoundTrip(requestTimeout, http.MethodPost, "/v1/reports", "", body)
			switch {
			case err != nil:
				t.Errorf("flood: %v", err)
			case a.Status == http.StatusOK:
				accepted++
			case a.Status == http.StatusTooManyRequests && a.RetryAfter > 0:
				if limited++; limited == 1 {
					close(begun)
				}
			default:
				t.Errorf("flood: %d, Retry-After %s: %s", a.Status, a.RetryAfter, text)
			}
			select {
			case <-stop:
				return
			default:
			}
			if err != nil {
				return
			}
		}
	})
	<-begun
	var slowest time.Duration
	calm := f.dialReplica(other, 0)
	for range 40 {
		began := time.Now()
		if a, text := post(calm, reportBody(t, other.Name, 0)); a.Status != http.StatusOK {
			t.Errorf("beside the flood a report is answered %d: %s", a.Status, text)
		}
		slowest = max(slowest, time.Since(began))
	}
	close(stop)
	flood.Wait()
	t.Logf("of %d reports of the flood %d were accepted; all 40 of another cell were, the slowest in %s",
		accepted+limited,
		accepted, slowest.Round(time.Microsecond))
	if limited == 0 || accepted > 200 {
		t.Errorf("%d reports of the flood were accepted, %d answered 429", accepted, limited)
	}

	if a, text := post(calm, reportBody(t, flooder.Name, 0)); a.Status != http.StatusForbidden {
		t.Errorf("a report for another cell is answered %d: %s", a.Status, text)
	}
	if a, text := post(f.dialReplica(other, 1),
		reportBody(t, other.Name, 64<<10)); a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over 64 KiB is answered %d: %s", a.Status, text)
	}
	if a, text := post(calm, reportBody(t, other.Name, 0)); a.Status != http.StatusOK {
		t.Errorf("after all that a report is answered %d: %s", a.Status, text)
	}
	f.checkRevocation(leaver)
}

// checkRevocation revokes a cell and checks that it is shut out on both replicas.
func (f *fleet) checkRevocation(m swarm.Member) {
	f.t.Helper()
	var ended sync.WaitGroup
	endedAt := make([]time.Time, len(f.replicas))
	for i := range f.replicas {
		_, events, err := f.dialReplica(m, i).OpenStream(requestTimeout, "/v1/desired", "")
		if err != nil || events == nil {
			f.t.Fatalf("no stream from replica %d: %v", i, err)
		}
		if _, err := events.ReadEvent(); err != nil {
			f.t.Fatal(err)
		}
		ended.Go(func() {
			for {
				if _, err := events.ReadEvent(); err != nil {
					endedAt[i] = time.Now()
					return
				}
			}
		})
	}
	begun := time.Now()
	f.mustRunSluice("cell", "revoke", m.Name)
	commandTook := time.Since(begun)
	denied := make([]time.Duration, len(f.replicas))
	f.eventually(func() (string, bool) {
		all := true
		for i := range f.replicas {
			a, _, err := f.dialReplica(m, i).RoundTrip(requestTimeout, http.MethodGet, "/v1/desired", "", nil)
			recordElapsed(&denied[i], begun, err == nil && a.Status == http.StatusUnauthorized)
			all = all && denied[i] > 0
		}
		return fmt.Sprintf("the revoked cell is answered 401 after %v", denied), all
	})
	ended.Wait()
	var took []time.Duration
	for _, end := range endedAt {
		took = append(took, end.Sub(begun))
	}
	f.t.Logf("revoke took %s; replicas closed its streams after %v and answered 401 after %v", commandTook, took,
		denied)
	for i := range f.replicas {
		if late := max(took[i], denied[i]) - commandTook; late > 10*time.Second { // R29 says 2 s, on an idle machine
			f.t.Errorf("replica %d shut the cell out %s after the revocation", i, late)
		}
	}
}

// Fault 39: of 50 keys that use one token at once, at two replicas, one succeeds, and may repeat its request at either
// replica. All others get the same 401 (R28).
func TestTokenRace(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 0, 2, entryPolicy)
	file := f.path("token")
	f.mustRunSluice("cell", "add", "acme", "--channel", "dedicated", "--repo", f.world.repo, "--token-file", file)
	word, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	token, err := identity.ParseToken(string(word))
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(identity.Join{Cell: token.Cell, Secret: token.Secret})
	if err != nil {
		t.Fatal(err)
	}
	const racers = 50
	links := make([]*swarm.Conn, racers)
	members := make([]swarm.Member, racers)
	for i := range links {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		members[i] = swarm.Member{Name: "acme", Key: key}
		links[i] = f.dialReplica(members[i], i%2)
	}
	var mu sync.Mutex
	answers := map[string]int{}
	winner := -1
	start := make(chan struct{})
	var race sync.WaitGroup
	for i, l := range links {
		race.Go(func() {
			<-start
			a, text, err := l.RoundTrip(requestTimeout, http.MethodPost, "/v1/register", "", body)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Errorf("racer %d: %v", i, err)
			case a.Status == http.StatusOK && winner < 0:
				winner = i
			default:
				answers[fmt.Sprintf("%d %s", a.Status, text)]++
			}
		})
	}
	close(start)
	race.Wait()
	if winner < 0 || len(answers) != 1 {
		t.Fatalf("racer %d was registered, the others' answers are %v", winner, answers)
	}
	for text, n := range answers {
		if n != racers-1 || !strings.HasPrefix(text, "401 ") {
			t.Errorf("%d racers were answered %s", n, text)
		}
	}
	for replica := range f.replicas {
		a, text, err := f.dialReplica(members[winner], replica).RoundTrip(requestTimeout, http.MethodPost,
			"/v1/register", "", body)
		if err != nil || a.Status != http.StatusOK {
			t.Errorf("the winner says it again to replica %d: %d %s %v", replica, a.Status, text, err)
		}
	}
	f.eventually(func() (string, bool) {
		text := f.readCommitted("cells/acme/identity.yaml")
		return "the winner's key is not in git: " +
			text, strings.Contains(text, identity.FormatKey(members[winner].Public()))
	})
}
