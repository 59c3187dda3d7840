package outbox_test

import (
	"bytes"
	"fmt"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/test/debian"
)

// eximConfiguration is for a server that keeps all letters in one mailbox file, knows nobody called gone, and is busy
// for who is called later.
const eximConfiguration = `
keep_environment =
spool_directory = %[1]s/spool
log_file_path = %[1]s/spool/%%slog
primary_hostname = mail.example.com
domainlist local_domains = example.com
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
acl_smtp_rcpt = recipient
acl_smtp_data = letter
begin acl
recipient:
  deny message = no such <b>user</b>
       local_parts = gone
  defer message = greylisted
       local_parts = later
  accept domains = +local_domains
  deny message = relay not permitted
letter:
  accept
begin routers
local:
  driver = accept
  transport = mailbox
begin transports
mailbox:
  driver = appendfile
  file = %[1]s/spool/mailbox
  user = Debian-exim
`

// startExim starts Debian's mail server, and returns its address and the mailbox that it delivers to.
func startExim(t *testing.T) (address, mailbox string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("Exim delivers as a user of its own, which only root may start: run this test as root")
	}
	if err := debian.Program(t.Context(), "exim4", "exim4-daemon-light"); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sluice-exim-") // Exim's user must be able to reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as, err := user.Lookup("Debian-exim")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(as.Uid)
	gid, _ := strconv.Atoi(as.Gid)
	configuration := filepath.Join(dir, "exim.conf")
	for _, step := range []error{os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "spool"), 0o750),
		os.Chown(filepath.Join(dir, "spool"), uid, gid),
		os.WriteFile(configuration, fmt.Appendf(nil, eximConfiguration, dir), 0o644)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	exim := exec.CommandContext(t.Context(), "exim4", "-C", configuration, "-bdf", "-q10s", "-oX",
		"127.0.0.1."+strconv.Itoa(port), "-oP", filepath.Join(dir, "spool", "pid"))
	var said bytes.Buffer
	exim.Stdout, exim.Stderr = &said, &said
	if err := exim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exim.Process.Kill()
		_ = exim.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "spool", "mainlog"))
			t.Logf("exim: %s\n%s", said.String(), log)
		}
	})
	await(t, "listening", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return address, filepath.Join(dir, "spool", "mailbox")
}

// Debian's mail server gets notices: whom it takes has one letter, in words alone, and whom it refuses is named.
func TestDebiansMailServer(t *testing.T) {
	t.Parallel()
	address, mailbox := startExim(t)
	text := "sinks: {mail: {type: mail, secret: mail, from: Sluice <sluice@example.com>, to: [ada@example.com, " +
		"grace@example.com, gone@example.com, later@example.com, ada@elsewhere.example]}}\n"
	p := noticeSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), text,
		map[string]string{"mail": "smtp://" + address}, nil)
	var all []plan.Message
	for _, to := range []string{"ada@example.com", "grace@example.com", "gone@example.com", "later@example.com",
		"ada@elsewhere.example"} {
		all = append(all, noticeMessage(t, notices.Target("mail", to), "rollout", 1))
	}
	p.enqueue(t, all...)
	id := all[0].Event.ID
	for to, want := range map[string]string{"ada@example.com": "", "grace@example.com": "",
		"gone@example.com": "answered 550 to the recipient", "later@example.com": "answered 451 to the recipient",
		"ada@elsewhere.example": "answered 550 to the recipient"} {
		target := notices.Target("mail", to)
		await(t, "answered for "+to, func() bool {
			r := p.receipts(t, id)[target]
			return r.Why != "" || !r.Delivered.IsZero()
		})
		r := p.receipts(t, id)[target]
		if r.Delivered.IsZero() != (want != "") || !strings.Contains(r.Why, want) || strings.Contains(r.Why, "<b>") {
			t.Errorf("%s: %+v, want %q", to, r, want)
		}
	}
	letters := func() (found []string) {
		data, _ := os.ReadFile(mailbox) // it is not there before the first letter
		for _, letter := range strings.Split("\n"+string(data), "\nFrom ")[1:] {
			_, letter, _ = strings.Cut(letter, "\n") // the line that begins a letter in a mailbox file
			found = append(found, letter)
		}
		return found
	}
	await(t, "in the mailbox", func() bool { return len(letters()) >= 2 })
	to := map[string]int{}
	for _, text := range letters() {
		letter, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		h := letter.Header
		to[h.Get("To")]++
		if !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || h.Get("References") == "" ||
			h.Get("Message-Id") == "" || !strings.Contains(h.Get("Subject"), "rollout, message 1") {
			t.Errorf("%+v", h)
		}
	}
	if len(to) != 2 || to["<ada@example.com>"] != 1 || to["<grace@example.com>"] != 1 {
		t.Errorf("letters: %v", to)
	}
}
