package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/fixtures/workspaces/product"
)

// productUsers start workspaces of a sample product, 20 a second.
type productUsers struct {
	address string

	mu          sync.Mutex
	answers     map[int]int // by status
	texts       map[string]int
	first, last time.Time // of the refusals
	unexpected  string    // an answer that no user should see; empty: there was none
}

func (u *productUsers) ask(ctx context.Context, method, path string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, u.address+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, strings.TrimSpace(string(text)), err
}

func (u *productUsers) start(ctx context.Context, name string) {
	asked := time.Now()
	status, text, err := u.ask(ctx, http.MethodPost, "/workspaces/"+name+"/start")
	if ctx.Err() != nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answers[status]++
	switch {
	case status == http.StatusLocked:
		if u.texts[text]++; u.first.IsZero() || asked.Before(u.first) {
			u.first = asked
		}
		u.last = time.Now()
	case err != nil || status != http.StatusOK:
		u.unexpected = fmt.Sprint(status, text, err)
	}
}

func (u *productUsers) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			all.Go(func() { u.start(ctx, fmt.Sprint("w", i)) })
		}
	}
}

func (u *productUsers) count(status int) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.answers[status]
}

// The sample product beside a real agent, with 20 starts a second: a release that changes only what is not marked
// refuses none. One that changes the server refuses new ones with its text, breaks none that is under way, and leaves
// the workspaces that run alone: the same processes, with the same output. The time in which starts are refused is
// measured, and so it is on the way back.
func TestSampleProductThroughMaintenances(t *testing.T) {
	w := newWorld(t, func(files map[string]string) {
		files["channels/staging/channel.yaml"] += "maintenance: {drain: 2m, maximum: 10m}\n"
	})
	w.addAgent("eu-1", "--health-timeout", "1s", "--flags-listen", "unix://"+w.path("eu-1.f"))
	w.startAll()
	w.pushFiles("cut 1.0.0", markedRelease("1.0.0", "web:1", "a", "a"))
	w.awaitRelease("eu-1", "1.0.0")

	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if err := product.Run(ctx, "127.0.0.1:0", w.path("eu-1.f"), 200*time.Millisecond, write); err != nil {
			t.Error(err)
		}
	})
	u := &productUsers{answers: map[int]int{}, texts: map[string]int{}}
	if _, err := fmt.Fscan(read, &u.address); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		status, text, err := u.ask(ctx, http.MethodPost, fmt.Sprintf("/workspaces/kept-%d/start", i))
		if status != http.StatusOK {
			t.Fatal(status, text, err)
		}
	}
	rows := regexp.MustCompile(`kept-\d: process (\d+), 0 snapshots, says: up as process (\d+)`)
	kept := func() string {
		_, page, _ := u.ask(ctx, http.MethodGet, "/")
		return fmt.Sprint(rows.FindAllString(page, -1))
	}
	w.eventually(func() (string, bool) { return "a workspace says nothing", strings.Count(kept(), "up as") == 5 })
	before := kept()
	running.Go(func() { u.run(ctx) })

	w.pushFiles("cut 1.1.0", markedRelease("1.1.0", "web:2", "a", "b"))
	w.awaitRelease("eu-1", "1.1.0")
	w.eventually(func() (string, bool) { return "nobody starts anything", u.count(200) > 20 })
	if n := u.count(http.StatusLocked); n > 0 {
		t.Errorf("%d starts were refused, and nothing marked changed", n)
	}
	for _, update := range []struct{ version, note, ends string }{{"1.2.0", "fine", "1.2.0"},
		{"1.3.0", "broken", "1.2.0"}} {
		u.mu.Lock()
		u.answers, u.first = map[int]int{}, time.Time{}
		u.mu.Unlock()
		w.pushFiles("cut "+update.version, markedRelease(update.version, update.note, update.version[2:3], "b"))
		w.eventually(func() (string, bool) {
			return update.version + ": nothing is refused", u.count(http.StatusLocked) > 0
		})
		if update.ends != update.version {
			w.eventually(func() (string, bool) {
				return "it is not quarantined", w.readCommitted("quarantine/"+update.version+".yaml") != ""
			})
		}
		w.awaitRelease("eu-1", update.ends)
		granted := u.count(200)
		w.eventually(func() (string, bool) {
			return update.version + ": nothing starts again", u.count(200) > granted+10
		})
		u.mu.Lock()
		t.Logf("%s: starts were refused for %s, %d of them; %d were granted", update.version,
			u.last.Sub(u.first).Round(time.Millisecond), u.answers[http.StatusLocked], u.answers[200])
		u.mu.Unlock()
		if now := kept(); now != before {
			t.Errorf("%s: before %s, and now %s", update.version, before, now)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.unexpected != "" || len(u.texts) != 1 || u.texts["No start for now."] == 0 {
		t.Errorf("users saw %v, and %s", u.texts, u.unexpected)
	}
}
