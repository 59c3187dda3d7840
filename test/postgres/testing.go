package postgres

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// Address names, in the environment, the server whose databases tests use; also for their child processes. Main sets it,
// unless it is set: then that server is used as it is. The user must be allowed to make databases and end sessions.
const Address = "SLUICE_TEST_POSTGRES"

// Main runs a package's tests with one server for all of them, and gives what to exit with. Without a server none is run.
func Main(m *testing.M) int {
	if os.Getenv(Address) != "" {
		return m.Run()
	}
	s, err := Launch(context.Background(), Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Setenv(Address, s.URL("postgres")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Start gives the address of an empty database for this test alone, on the process's server, or without Main on one of
// the test's own.
func Start(t testing.TB) (url string) {
	t.Helper()
	server := os.Getenv(Address)
	if server == "" {
		server = Own(t, Options{}).URL("postgres")
	}
	database, err := Create(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Drop(context.Background(), database); err != nil {
			t.Error(err)
		}
	})
	return database
}

// Own gives a server for this test alone, which it may stop. It ends with the test.
func Own(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Launch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
