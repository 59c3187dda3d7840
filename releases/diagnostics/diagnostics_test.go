package diagnostics_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/releases/diagnostics"
)

const text = `apiVersion: sluice/v1
kind: Diagnostics
commands:
  - name: disk
    description: Free space
    run: [df, -h]
  - name: logs
    description: The newest lines of a unit's log
    run: [journalctl, "--unit={unit}", --lines, "{lines}", --since, "-{since}", -o, "jsonpath={.items}"]
    timeout: 1m
    output: 4096
    arguments:
      - {name: unit, type: name}
      - {name: lines, type: integer, least: 1, most: 500, default: "50"}
      - {name: since, type: duration, longest: 1h, default: 15m}
  - name: level
    description: How much is logged
    run: [shopctl, level, "{to}"]
    arguments:
      - {name: to, type: enum, values: [info, debug]}
`

func parse(t *testing.T) diagnostics.List {
	t.Helper()
	d, faults := diagnostics.Parse("diagnostics.yaml", []byte(text))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return d.Commands
}

func TestResolve(t *testing.T) {
	t.Parallel()
	l := parse(t)
	r, err := l.Resolve("logs  unit=shop.service lines=7")
	want := []string{"journalctl", "--unit=shop.service", "--lines", "7", "--since", "-15m", "-o", "jsonpath={.items}"}
	if err != nil || !slices.Equal(r.Args, want) || r.Timeout != time.Minute || r.Output != 4096 {
		t.Fatal(r, err)
	}
	if r, err := l.Resolve("disk"); err != nil || r.Timeout != diagnostics.DefaultTimeout ||
		r.Output != diagnostics.DefaultOutput {
		t.Error(r, err)
	}
	help := l.Help("")
	if !strings.Contains(help, "logs unit=NAME [lines=1..500] [since=DURATION]") {
		t.Error(help)
	}
	if one := l.Help("disk"); strings.Contains(one, "logs") || !strings.Contains(one, "runs: df -h") {
		t.Error(one)
	}
}

// D4: what a person writes can become nothing but the value of a typed argument.
func TestD4ResolveRefusals(t *testing.T) {
	t.Parallel()
	l := parse(t)
	for _, line := range []string{
		"", " ", "help", "rm", "/bin/sh", "disk -h", "disk a=b", "disk;id", "logs", "logs unit=", "logs unit=-rf",
		"logs unit=../x", "logs unit=a;id", "logs unit=$(id)", "logs unit=`id`", "logs unit=a unit=b",
		"logs unit=a\x00b",
		"logs unit=a lines=0", "logs unit=a lines=501", "logs unit=a lines=+5", "logs unit=a lines=05",
		"logs unit=a lines=99999999999999999999", "logs unit=a since=2h", "logs unit=a since=-1m", "logs unit=a since=",
		"logs unit=a since=+1m", "logs unit={lines}", "level to=trace", "level to=", "level",
		"logs unit=" + strings.Repeat("a", 129), "logs unit=" + strings.Repeat("a", 5000),
	} {
		if r, err := l.Resolve(line); err == nil {
			t.Errorf("%.60q: %q", line, r.Args)
		}
	}
}

func TestParseRefusals(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][2]string{
		"program by argument": {"run: [df, -h]", "run: [\"{x}\"]"},
		"no such argument":    {"run: [df, -h]", "run: [df, \"{x}\"]"},
		"unused argument":     {"\"--unit={unit}\"", "\"--unit=x\""},
		"name":                {"name: disk", "name: Disk"},
		"help":                {"name: disk", "name: help"},
		"twice":               {"name: disk", "name: logs"},
		"default":             {`default: "50"`, `default: "501"`},
		"bounds":              {"least: 1, most: 500", "least: 5, most: 4"},
		"negative":            {"least: 1, most: 500", "least: -1, most: 500"},
		"type":                {"type: name", "type: path"},
		"enum":                {", values: [info, debug]", ""},
		"enum's value":        {"[info, debug]", "[-x]"},
		"values":              {"type: name", "type: name, values: [a]"},
		"timeout":             {"timeout: 1m", "timeout: 1h"},
		"output":              {"output: 4096", "output: 99999999"},
		"unknown field":       {"timeout: 1m", "shell: true"},
		"description":         {"description: Free space", "description: \"a\\e[2J\""},
	} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if changed == text {
			t.Fatal(name)
		}
		if _, faults := diagnostics.Parse("diagnostics.yaml", []byte(changed)); len(faults) == 0 {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("logs unit=a lines=3")
	d, faults := diagnostics.Parse("diagnostics.yaml", []byte(text))
	if len(faults) > 0 {
		f.Fatal(faults)
	}
	l := diagnostics.List(d.Commands)
	f.Fuzz(func(t *testing.T, line string) {
		r, err := l.Resolve(line)
		if err != nil {
			return
		}
		if len(r.Args) != len(r.Command.Run) || r.Args[0] != r.Command.Run[0] {
			t.Errorf("%q: %q", line, r.Args)
		}
		for i, word := range r.Args {
			if r.Command.Run[i][0] != '-' && word[0] == '-' {
				t.Errorf("%q became the option %q", line, word)
			}
		}
	})
}
