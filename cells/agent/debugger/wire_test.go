package debugger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/test/debian"
)

// The real OpenSSH client, by ProxyCommand, runs a command and a shell; asciinema plays the record.
func TestOpenSSHAndAsciinema(t *testing.T) {
	t.Parallel()
	for program, its := range map[string]string{"ssh": "openssh-client", "asciinema": "asciinema",
		"script": "bsdutils"} {
		if err := debian.Program(t.Context(), program, its); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	keyFile, hostsFile := filepath.Join(dir, "key"), filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for _, terminal := range []bool{false, true} {
		scope := debug.Read
		if terminal {
			scope = debug.Shell
		}
		f := newFixtureOf(t, scope, signer, nil)
		line := knownhosts.Line([]string{"acme"}, f.session.hostKey.PublicKey()) + "\n"
		if err := os.WriteFile(hostsFile, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"-F", "none", "-i", keyFile, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes",
			"-o", "UserKnownHostsFile=" + hostsFile, "-o", "HostKeyAlias=acme", "-o", "BatchMode=yes",
			"-o", "ProxyCommand=" + self + " stdio " + f.listen(t) + " x x", "-A", "-X"}
		cmd := exec.Command("ssh", append(args, "acme", "greet who=world")...)
		if terminal {
			line := slices.Concat([]string{"ssh", "-tt"}, args, []string{"acme", `printf "in \033[1mbold\033[0m 漢字\n"`})
			cmd = exec.Command("script", "-qec", words.Shell(line...), "/dev/null")
		}
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=", "TERM=xterm", "DISPLAY=")
		out, err := cmd.CombinedOutput()
		want := "hello world"
		if terminal {
			want = "in \x1b[1mbold\x1b[0m 漢字"
		}
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%v: %.2000q", err, out)
		}
		f.awaitEnding(t)
		play := exec.Command("script", "-qec", "asciinema cat "+f.folder.RecordPath(f.id), "/dev/null")
		played, err := play.CombinedOutput()
		if err != nil || !strings.Contains(string(played), want) {
			t.Errorf("asciinema: %v: %.2000q", err, played)
		}
	}
}

// attack changes the bytes that pass in one direction, from an offset on.
type attack struct {
	name   string
	direct func(from, to net.Conn, offset int64)
}

func attacks() []attack {
	pass := func(from, to net.Conn, n int64) bool {
		passed, _ := io.CopyN(to, from, n)
		return passed == n
	}
	return []attack{
		{"flip", func(from, to net.Conn, offset int64) {
			if one := make([]byte, 1); pass(from, to, offset) {
				if n, _ := from.Read(one); n == 1 {
					_, _ = to.Write([]byte{one[0] ^ 0x20})
				}
				_, _ = io.Copy(to, from)
			}
		}},
		{"inject", func(from, to net.Conn, offset int64) {
			if pass(from, to, offset) {
				_, _ = to.Write([]byte("\x00\x00\x00\x0c\x0a\x05rm -rf"))
				_, _ = io.Copy(to, from)
			}
		}},
		{"replay", func(from, to net.Conn, offset int64) {
			seen := make([]byte, offset)
			n, _ := io.ReadFull(from, seen)
			_, _ = to.Write(seen[:n])
			_, _ = to.Write(seen[max(0, n-64):n])
			_, _ = io.Copy(to, from)
		}},
		{"truncate", func(from, to net.Conn, offset int64) {
			pass(from, to, offset)
			_ = from.Close()
		}},
	}
}

// D4: a relay that flips, injects, replays or cuts can end a session, and change nothing in it.
func TestD4EvilRelay(t *testing.T) {
	t.Parallel()
	for _, a := range attacks() {
		for _, toCell := range []bool{false, true} {
			t.Run(fmt.Sprint(a.name, toCell), func(t *testing.T) {
				t.Parallel()
				for _, offset := range []int64{5, 1300, 1700, 2100, 2900} {
					f := newFixture(t, debug.Read, nil)
					cell, err := net.Dial("tcp", f.listen(t))
					if err != nil {
						t.Fatal(err)
					}
					person, relay := tcpPair(t)
					go pump(relay, cell, a, offset, toCell)
					go pump(cell, relay, a, offset, !toCell)
					timer := time.AfterFunc(2*time.Second, func() { _ = person.Close() }) // what the relay holds back
					out, err := helpOver(f, person)
					timer.Stop()
					if err == nil && out != declared().Help("") {
						t.Errorf("from byte %d on: the person saw %.300q", offset, out)
					}
					_, _, _ = person.Close(), relay.Close(), cell.Close()
					select {
					case e := <-f.ended:
						if m := joined(f.readRecord(t, e), "m"); strings.Contains(m, "rm") {
							t.Errorf("from byte %d on: the cell was asked for %q", offset, m)
						}
					case <-f.failed: // it never began
					}
				}
			})
		}
	}
}

func pump(from, to net.Conn, a attack, offset int64, attacked bool) {
	if attacked {
		a.direct(from, to, offset)
	} else {
		_, _ = io.Copy(to, from)
	}
	_ = to.Close()
}

// helpOver asks for help over a connection.
func helpOver(f *fixture, conn net.Conn) (string, error) {
	c, channels, requests, err := ssh.NewClientConn(conn, "acme", &ssh.ClientConfig{User: "x",
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(f.key)},
		HostKeyCallback: ssh.FixedHostKey(f.session.hostKey.PublicKey())})
	if err != nil {
		return "", err
	}
	client := ssh.NewClient(c, channels, requests)
	defer func() { _ = client.Close() }()
	s, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := s.Output("help")
	return string(out), err
}
