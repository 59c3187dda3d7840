package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"
)

// letterBox is a mail server that keeps letters as files, and knows nobody whose address begins with gone@.
type letterBox struct {
	dir string

	mu    sync.Mutex // guards count
	count map[string]int
}

// mailserver VARIABLE DIR: sets the variable to HOST:PORT of a real mail server, which writes the letters to ADDRESS to
// DIR/ADDRESS.1, DIR/ADDRESS.2 and so on.
func mailserver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mailserver VARIABLE DIR")
	}
	box := &letterBox{dir: ts.MkAbs(args[1]), count: map[string]int{}}
	ts.Check(os.MkdirAll(box.dir, 0o700))
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &delivery{box: box}, nil }))
	s.Domain, s.ReadTimeout, s.WriteTimeout = "mail.test", 30*time.Second, 30*time.Second
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	go func() { _ = s.Serve(l) }()
	ts.Defer(func() { _ = s.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// delivery is one conversation.
type delivery struct {
	box *letterBox
	to  []string
}

func (d *delivery) Mail(string, *smtp.MailOptions) error { return nil }

func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "gone@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	d.to = append(d.to, to)
	return nil
}

func (d *delivery) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	for _, to := range d.to {
		d.box.count[to]++
		name := filepath.Join(d.box.dir, fmt.Sprintf("%s.%d", to, d.box.count[to]))
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (d *delivery) Reset()        { d.to = nil }
func (d *delivery) Logout() error { return nil }
