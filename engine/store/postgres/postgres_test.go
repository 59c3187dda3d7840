package postgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/engine/store/storetest"
	server "github.com/sluice-cd/sluice/test/postgres"
)

// childURL names the database in the environment of the process that TestKill kills.
const childURL = "SLUICE_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		ctx := context.Background()
		s, err := postgres.Open(ctx, url, postgres.Options{})
		if err == nil {
			err = storetest.Child(ctx, s, os.Stdout)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(server.RunTests(m))
}

// opener opens a database for each test, the same one each time.
func opener() storetest.Open {
	var mu sync.Mutex
	urls := map[string]string{} // by test
	return func(t *testing.T, now func() time.Time) storetest.Store {
		t.Helper()
		mu.Lock()
		url, ok := urls[t.Name()]
		mu.Unlock()
		if !ok {
			url = server.NewDatabase(t)
			mu.Lock()
			urls[t.Name()] = url
			mu.Unlock()
		}
		return openWith(t, url, postgres.Options{Now: now})
	}
}

func open(t testing.TB, url string) *postgres.Store {
	t.Helper()
	return openWith(t, url, postgres.Options{Log: zerolog.New(zerolog.NewTestWriter(t))})
}

// openWith opens a store, whose options may leave less time than a busy machine takes to open it: then again.
func openWith(t testing.TB, url string, o postgres.Options) *postgres.Store {
	t.Helper()
	if o.Timeout > 0 { // too short, on a busy machine, to make tables in
		made, err := postgres.Open(t.Context(), url, postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		made.Close()
	}
	s, err := postgres.Open(t.Context(), url, o)
	for end := time.Now().Add(time.Minute); o.Timeout > 0 && err != nil && time.Now().Before(end); {
		s, err = postgres.Open(t.Context(), url, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) { storetest.Run(t, opener()) }

func TestPushes(t *testing.T) {
	t.Parallel()
	storetest.Pushes(t, opener())
}

func TestKill(t *testing.T) {
	t.Parallel()
	url := server.NewDatabase(t)
	storetest.Kill(t,
		func(t *testing.T, _ func() time.Time) storetest.Store { return open(t, url) },
		func(t *testing.T) *exec.Cmd {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childURL+"="+url)
			cmd.Stderr = os.Stderr
			return cmd
		})
}

func report(name string, version int64, message string) []plan.Reported {
	return []plan.Reported{{State: &plan.CellState{Name: name, Channel: "staging", Sequence: 1, Version: version,
		Message: message, LastReport: time.Now()}}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
