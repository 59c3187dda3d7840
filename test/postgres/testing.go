package postgres

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// AddressVariable is the environment variable with the address of the server whose databases tests use, also in child
// processes. Main sets it. If it is set already, tests use that server as it is; its user must be allowed to make
// databases and end sessions.
const AddressVariable = "SLUICE_TEST_POSTGRES"

// RunTests runs a package's tests with one server for all, and returns the exit code. Without a server no test runs.
func RunTests(m *testing.M) int {
	if os.Getenv(AddressVariable) != "" {
		return m.Run()
	}
	s, err := Launch(context.Background(), Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Setenv(AddressVariable, s.URL("postgres")); err != nil {
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

// NewDatabase returns the address of an empty database for this test alone, on the process's server or, without Main,
// on a server of the test's own.
func NewDatabase(t testing.TB) (url string) {
	t.Helper()
	server := os.Getenv(AddressVariable)
	if server == "" {
		server = NewServer(t, Options{}).URL("postgres")
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

// NewServer starts a server for this test alone, which the test may stop. The server closes with the test.
func NewServer(t testing.TB, o Options) *Server {
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
