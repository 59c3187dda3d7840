package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// A child is this program in another process: a load, a bare server or a stub of the control plane. The parent sends a
// command as one line of JSON; the child answers by one line. A child ends when its input does, and so with its parent.

type commandRequest struct {
	Command  string          `json:"do"`
	Argument json.RawMessage `json:"with"`
}

type commandResult struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"gives,omitempty"`
}

// child is the parent's side of a child. One goroutine uses it.
type child struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

// callTimeout bounds one command.
const callTimeout = 6 * time.Minute

func startChild(ctx context.Context, role string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: role, cmd: exec.CommandContext(ctx, self, "child", role)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReaderSize(out, 1<<20)
	return c, c.cmd.Start()
}

// call sends a command, waits, and stores the result in result unless that is nil.
func (c *child) call(command string, argument, result any) error {
	raw, err := json.Marshal(argument)
	if err != nil {
		return err
	}
	line, err := json.Marshal(commandRequest{command, raw})
	if err != nil {
		return err
	}
	timeout := time.AfterFunc(callTimeout, func() { _ = c.cmd.Process.Kill() })
	defer timeout.Stop()
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %s: %w", c.role, command, err)
	}
	response, err := c.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: %s: it ended: %w", c.role, command, err)
	}
	var o commandResult
	if err := json.Unmarshal(response, &o); err != nil {
		return fmt.Errorf("%s: %s: %w", c.role, command, err)
	}
	if o.Error != "" {
		return fmt.Errorf("%s: %s: %s", c.role, command, o.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(o.Value, result)
}

func (c *child) stop() {
	if c == nil {
		return
	}
	_ = c.in.Close()
	late := time.AfterFunc(10*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	_ = c.cmd.Wait() // the exit code does not matter
}

// commands are the functions of a child, by name.
type commands map[string]func(with json.RawMessage) (gives any, err error)

// commandOf makes a command of a function with an argument of its own type.
func commandOf[T any](f func(T) (any, error)) func(json.RawMessage) (any, error) {
	return func(raw json.RawMessage) (any, error) {
		var with T
		if err := json.Unmarshal(raw, &with); err != nil {
			return nil, err
		}
		return f(with)
	}
}

func serveCommands(in io.Reader, out io.Writer, d commands) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var o commandRequest
		if err := json.Unmarshal(line, &o); err != nil {
			return err
		}
		var result commandResult
		if f := d[o.Command]; f == nil {
			result.Error = "unknown command"
		} else if value, err := f(o.Argument); err != nil {
			result.Error = err.Error()
		} else if result.Value, err = json.Marshal(value); err != nil {
			result.Error = err.Error()
		}
		text, err := json.Marshal(result)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(text, '\n')); err != nil {
			return err
		}
	}
}
