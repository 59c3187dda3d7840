package controlplane_test

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/store"
)

type tokenStore = controlplane.Tokens

// countingTokens counts how often tokens are read.
type countingTokens struct {
	tokenStore
	reads *atomic.Int64
}

func (c countingTokens) Tokens(ctx context.Context) ([]access.Token, error) {
	c.reads.Add(1)
	return c.tokenStore.Tokens(ctx)
}

// newTokenSite returns a site with a token of each role, and a function that returns how often tokens were read.
func newTokenSite(t *testing.T) (s *site, tokens map[string]string, reads func() int64) {
	t.Helper()
	count := &atomic.Int64{}
	tokens = map[string]string{}
	s = newSite(t, store.Options{}, func(o *controlplane.Options) {
		o.Tokens = countingTokens{o.Journal.(controlplane.Tokens), count}
		for _, role := range access.AllRoles() {
			made, secret, err := peopleapi.NewToken(string(role), access.Roles{role}, "", time.Now())
			if err == nil {
				err = o.Tokens.AddToken(t.Context(), made)
			}
			if err != nil {
				t.Fatal(err)
			}
			tokens[string(role)] = secret
		}
	})
	return s, tokens, count.Load
}

// Wrong tokens cost the store a bounded number of reads, however many, and do not delay a valid token.
func TestWrongTokensCostFewReads(t *testing.T) {
	t.Parallel()
	s, tokens, reads := newTokenSite(t)
	good := "Bearer " + tokens["viewer"]
	if w, _ := s.request(t, "GET", "/v1/status", "", "Authorization", good); w.StatusCode != 200 {
		t.Fatal(w.Status)
	}
	begun, before := time.Now(), reads()
	answers := map[int]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for n := range 1500 {
		all.Go(func() {
			w, _ := s.request(t, "GET", "/v1/status", "", "Authorization", "Bearer sluice_wrong"+strconv.Itoa(n))
			mu.Lock()
			answers[w.StatusCode]++
			mu.Unlock()
			if w.StatusCode == 429 && w.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		})
		if n%50 == 0 {
			if w, _ := s.request(t, "GET", "/v1/status", "", "Authorization", good); w.StatusCode != 200 {
				t.Errorf("a good token among wrong ones: %s", w.Status)
			}
		}
	}
	all.Wait()
	if answers[401] == 0 || answers[401]+answers[429] != 1500 {
		t.Errorf("answered %v", answers)
	}
	if n, most := reads()-before, int64(20*time.Since(begun).Seconds())+502; n > most {
		t.Errorf("%d reads, more than %d", n, most)
	}
}

// A token removed here or elsewhere is refused within 2 s; a new token is valid at once.
func TestTokenChangesApplyInTime(t *testing.T) {
	t.Parallel()
	s, tokens, _ := newTokenSite(t)
	as := func(secret string) int {
		w, _ := s.request(t, "GET", "/v1/status", "", "Authorization", "Bearer "+secret)
		return w.StatusCode
	}
	admin := "Bearer " + tokens["admin"]
	if as(tokens["viewer"]) != 200 || as(tokens["operator"]) != 200 {
		t.Fatal("good tokens are refused")
	}
	if w, body := s.request(t, "DELETE", "/v1/tokens/operator", "", "Authorization", admin); w.StatusCode != 204 ||
		as(tokens["operator"]) != 401 {
		t.Errorf("removed here: %s %s, and then %d", w.Status, body, as(tokens["operator"]))
	}
	made, secret, err := peopleapi.NewToken("late", access.Roles{access.Viewer}, "", time.Now())
	if err == nil {
		err = s.store.AddToken(t.Context(), made)
	}
	if err != nil || as(secret) != 200 {
		t.Errorf("added elsewhere, and asked for at once: %v", err)
	}
	follow, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	follow.Header.Set("Accept", "text/event-stream")
	follow.Header.Set("Authorization", "Bearer "+secret)
	stream, err := s.Client().Do(follow)
	if err != nil || stream.StatusCode != 200 {
		t.Fatal(stream, err)
	}
	defer stream.Body.Close()
	if err := s.store.RemoveToken(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	// Without StillAllowsRole the stream would not end.
	for lines := bufio.NewScanner(stream.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "retry") {
			t.Error("the stream has a retry event")
		}
	}
	if as(secret) != 401 {
		t.Error("removed elsewhere, and still good")
	}
}
