package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// KubeconfigVariable is the environment variable with the kubeconfig of a cluster that tests share, if there is one: a
// cluster that this package started, and whose content is of no value.
const KubeconfigVariable = "SLUICE_TEST_KUBECONFIG"

// Shared is the cluster of a package's tests, started when the first asks for it.
type Shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// Get returns the cluster.
func (s *Shared) Get(t testing.TB) *Cluster {
	t.Helper()
	s.once.Do(func() {
		if kubeconfig := os.Getenv(KubeconfigVariable); kubeconfig != "" {
			s.cluster, s.err = open(context.Background(), kubeconfig)
			return
		}
		s.cluster, s.err = Start(context.Background(), 3)
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.cluster
}

// RunTests runs a package's tests, closes the cluster and returns the exit code.
func (s *Shared) RunTests(m *testing.M) int {
	code := m.Run()
	if s.cluster != nil {
		if err := s.cluster.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// New starts a cluster for this test alone, which the test may stop. It closes with the test.
func New(t testing.TB, nodes int) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Run runs kubectl, which must succeed, and returns what it printed.
func (c *Cluster) Run(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// Namespace makes a namespace for this test alone.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()
	name := strings.TrimRight(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, t.Name()), "-")
	name = strings.Trim(name[max(0, len(name)-50):], "-")
	c.Run(t, "", "create", "namespace", name)
	t.Cleanup(func() {
		_, _ = c.Kubectl(context.Background(), "", "delete", "namespace", name, "--wait=false") // the cluster goes away
	})
	return name
}
