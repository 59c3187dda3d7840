package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-cd/sluice/test/postgres"
)

// childFolder is the variable with the folder of the child process that TestKilled kills.
const childFolder = "SLUICE_POSTGRES_TEST_CHILD"

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		s, err := postgres.Launch(context.Background(), postgres.Options{Folder: folder})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(s.URL("postgres"))
		select {}
	}
	os.Exit(postgres.RunTests(m))
}

func ask(ctx context.Context, address, query string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	return answer, conn.QueryRow(ctx, query).Scan(&answer)
}

func TestStartGivesEachTestItsOwn(t *testing.T) {
	t.Parallel()
	a, b := postgres.NewDatabase(t), postgres.NewDatabase(t)
	for _, address := range []string{a, b} {
		if _, err := ask(t.Context(), address, `CREATE TABLE t ()`); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("make a table: %v", err) // fails if the databases are one
		}
		if got, err := ask(t.Context(), address, `SHOW fsync`); got != "on" || err != nil {
			t.Errorf("fsync is %q (%v)", got, err)
		}
	}
	u, err := url.Parse(a)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("sluice")
	if _, err := ask(t.Context(), u.String(), `SELECT 'in'`); err == nil {
		t.Error("the server accepts a connection without a password")
	}
}

func TestKillSessions(t *testing.T) {
	t.Parallel()
	address, other := postgres.NewDatabase(t), postgres.NewDatabase(t)
	var conns []*pgx.Conn
	for _, to := range []string{address, other} {
		conn, err := pgx.Connect(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		conns = append(conns, conn)
	}
	if err := postgres.KillSessions(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	if err := conns[0].Ping(t.Context()); err == nil {
		t.Error("the killed session still works")
	}
	if err := conns[1].Ping(t.Context()); err != nil {
		t.Errorf("another database's session: %v", err)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	s := postgres.NewServer(t, postgres.Options{})
	address := s.URL("postgres")
	if _, err := ask(t.Context(), address, `SELECT count(*)::text FROM (SELECT 1) AS one`); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func() error{"stop": s.Stop, "crash": s.Crash} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(t.Context(), address, `SELECT 'up'`); err == nil {
			t.Errorf("the server answers after %s", name)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := ask(t.Context(), address, `SELECT 'up'`); got != "up" {
			t.Errorf("after %s and restart: %q (%v)", name, got, err)
		}
	}
}

// A server ends with its process, even when the process is killed, and the next launch removes the folder.
func TestKilled(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for path := folder; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil { // the server may run as another user
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+folder)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	address := lines.Text()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The session ends only with the server: nothing else closes it.
	if _, err := conn.WaitForNotification(t.Context()); err == nil {
		t.Error("a notification of a dead server")
	}
	_ = conn.Close(t.Context())

	left, err := filepath.Glob(filepath.Join(folder, "*", "lock"))
	if err != nil || len(left) != 1 {
		t.Fatalf("it left %v (%v)", left, err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(left[0], old, old); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Launch(t.Context(), postgres.Options{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLink(t *testing.T) {
	t.Parallel()
	address, link := postgres.NewLink(t, postgres.NewDatabase(t))
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	link.Cut()
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := pgx.Connect(ctx, address); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connected over a link that is cut: %v", err)
	}
	select {
	case err := <-answered:
		t.Errorf("answered over a link that is cut: %v", err)
	default:
	}
	link.Restore()
	if err := <-answered; err != nil {
		t.Errorf("once mended: %v", err)
	}
	link.ResetConns()
	if err := conn.Ping(t.Context()); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("over a link that broke: %v", err)
	}
}
