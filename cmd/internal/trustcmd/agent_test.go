package trustcmd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh/agent"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// serveAgent serves the keys by an SSH agent, and returns its socket.
func serveAgent(t *testing.T, keys ...ed25519.PrivateKey) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, conn) }()
		}
	}()
	return socket
}

// A signer's key in the agent signs as TUF has it, whatever other keys are there; other keys sign nothing.
func TestAgentSigns(t *testing.T) {
	var private [2]ed25519.PrivateKey
	var public [2]ed25519.PublicKey
	for i := range private {
		var err error
		if public[i], private[i], err = ed25519.GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	home := t.TempDir()
	app := func(keys ...ed25519.PrivateKey) *cli.App {
		var out bytes.Buffer
		return cli.NewApp([]string{"HOME=" + home, "GIT_CONFIG_NOSYSTEM=1", "PATH=" + os.Getenv("PATH"),
			"SSH_AUTH_SOCK=" + serveAgent(t, keys...)}, nil, &out, &out)
	}
	wanted := []trust.Key{{Name: "ada", Public: public[1]}}
	key, err := findSigner(t.Context(), app(private[:]...), "", wanted)
	if err != nil {
		t.Fatal(err)
	}
	by, err := signerOf(key.Key)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := by.Sign([]byte("payload"))
	if err != nil || !ed25519.Verify(public[1], []byte("payload"), signature) || !by.Public.Equal(public[1]) {
		t.Errorf("the agent's signature is not plain Ed25519 by the signer's key: %v", err)
	}
	if _, err := findSigner(t.Context(), app(private[0]), "", wanted); err == nil {
		t.Error("a stranger's key was found")
	}
}

// Keys of other types, which sign something of their own, are refused with what to do.
func TestOtherKeysAreRefused(t *testing.T) {
	for name, line := range map[string]string{
		"fido": "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAbQgs9NiZHNzT2UplYCSxVYLQnw66oFtV4UEeAy3fGyAAAABHNzaDo=",
		"none": "hello",
	} {
		if _, err := trust.ParseKey(name, line); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
