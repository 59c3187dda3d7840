package notices_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/engine/notices"
)

func throughJSON(t *testing.T, m notices.Memory) (out notices.Memory) {
	t.Helper()
	data, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const header = "apiVersion: sluice/v1\nkind: Notices\n"

func load(t *testing.T, text string) *notices.Subscriptions {
	t.Helper()
	s, faults := notices.Load(nil, fstest.MapFS{notices.File: {Data: []byte(header + text)}})
	if s == nil {
		t.Fatalf("faults: %v", faults)
	}
	return s
}

const sinks = `sinks:
  chat: {type: slack, secret: chat}
  mail: {type: mail, secret: mail, from: Sluice <sluice@example.com>, to: [ada@example.com, bo@example.com]}
`

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) // a Friday

func notice(kind notices.Kind, severity notices.Severity, channel string, cells ...string) notices.WholeNotice {
	return notices.WholeNotice{All: cells, Notice: notices.Notice{ID: "n", Thread: "t", Number: 1, Kind: kind,
		Severity: severity, Channel: channel, Count: len(cells), Cells: cells, Title: "it happened"}}
}

func labels(cell string) map[string]string {
	if strings.HasPrefix(cell, "gold") {
		return map[string]string{"tier": "gold"}
	}
	return map[string]string{"tier": ""}
}

func TestRoute(t *testing.T) {
	for name, c := range map[string]struct {
		subscribe string
		notice    notices.WholeNotice
		want      string // targets with the cells that they are told
	}{
		"everything": {"{sink: chat}", notice(notices.Halt, notices.Critical, "staging", "a", "b"), "chat:a,b"},
		"each recipient": {"{sink: mail}", notice(notices.Halt, notices.Critical, "staging"),
			"mail/ada@example.com: mail/bo@example.com:"},
		"another kind": {"{sink: chat, kinds: [rollback]}", notice(notices.Halt, notices.Critical, "staging"), ""},
		"too little":   {"{sink: chat, severity: critical}", notice(notices.Failing, notices.Warning, "staging"), ""},
		"enough":       {"{sink: chat, severity: warning}", notice(notices.Failing, notices.Critical, "staging"), "chat:"},
		"another channel": {"{sink: chat, channels: [dedicated]}", notice(notices.Halt, notices.Critical, "staging"),
			""},
		"about no channel": {"{sink: chat, channels: [dedicated]}", notice(notices.Unreadable, notices.Warning, ""),
			"chat:"},
		"labels": {"{sink: chat, labels: {tier: gold}}",
			notice(notices.Halt, notices.Critical, "staging", "a", "gold-1", "gold-2"), "chat:gold-1,gold-2"},
		"an empty label is no missing one": {"{sink: chat, labels: {other: \"\"}}",
			notice(notices.Halt, notices.Critical, "staging", "a"), ""},
		"no cell has the labels": {"{sink: chat, labels: {tier: gold}}",
			notice(notices.Halt, notices.Critical, "staging", "a"), ""},
		"two entries, once, with both's cells": {"{sink: chat, labels: {tier: gold}}, {sink: chat, labels: {tier: \"\"}}",
			notice(notices.Halt, notices.Critical, "staging", "a", "gold-1"), "chat:a,gold-1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, sinks+"subscribe: ["+c.subscribe+"]\n")
			var got []string
			for _, d := range s.Route(c.notice, labels, noon) {
				if !d.Next.Equal(noon) {
					t.Errorf("at %v", d.Next)
				}
				to := strings.TrimPrefix(d.Target, notices.TargetPrefix)
				got = append(got, to+":"+strings.Join(d.Notice.Cells, ","))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}

func TestQuietHours(t *testing.T) {
	night := `{windows: [{opens: "0 22 * * *", for: 9h, zone: Europe/Berlin}]}`
	weekend := `{windows: [{opens: "0 18 * * FRI", for: 60h, zone: UTC}, {opens: "0 22 * * *", for: 9h, zone: UTC}], except: critical}`
	always := `{windows: [{opens: "* * * * *", for: 1m}], except: critical}`
	for name, c := range map[string]struct {
		quiet    string
		severity notices.Severity
		at, want time.Time
	}{
		"by day":       {night, notices.Info, noon, noon},
		"by night":     {night, notices.Info, noon.Add(10 * time.Hour), time.Date(2026, 11, 28, 6, 0, 0, 0, time.UTC)},
		"what matters": {night, notices.Critical, noon.Add(10 * time.Hour), noon.Add(10 * time.Hour)},
		"windows touch": {weekend, notices.Warning, noon.Add(10 * time.Hour),
			time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC)},
		"always quiet": {always, notices.Warning, noon, noon.Add(60 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, sinks+"subscribe: [{sink: chat, quiet: "+c.quiet+"}]\n")
			got := s.Route(notice(notices.Halt, c.severity, "staging"), labels, c.at)
			if len(got) != 1 || got[0].Next.Sub(c.want).Abs() > time.Minute {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	// Of two entries the earlier instant counts.
	s := load(t, sinks+"subscribe: [{sink: chat, quiet: "+always+"}, {sink: chat, kinds: [halt]}]\n")
	if got := s.Route(notice(notices.Halt, notices.Info, ""), labels, noon); len(got) != 1 || !got[0].Next.Equal(noon) {
		t.Errorf("%v", got)
	}
}

func TestFaultsOfSubscriptions(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no such sink":   {sinks + "subscribe: [{sink: caht}]\n", "there is no sink"},
		"no such kind":   {sinks + "subscribe: [{sink: chat, kinds: [halted]}]\n", "there is no kind"},
		"no such field":  {sinks + "subscribe: [{sink: chat, kind: halt}]\n", "kind"},
		"empty kinds":    {sinks + "subscribe: [{sink: chat, kinds: []}]\n", "kinds"},
		"the URL itself": {"sinks: {chat: {type: slack, secret: \"https://hooks.example.com/T/B/x\"}}\n", "would be in git"},
		"the key itself": {"sinks: {h: {type: webhook, url: \"https://e.com\", secret: whsec_MfKQ9r8GKYqrTwj}}\n", "would be in git"},
		"a path":         {"sinks: {chat: {type: slack, secret: ../../etc/shadow}}\n", "can't name a file"},
		"dots alone":     {"sinks: {chat: {type: slack, secret: ..}}\n", "can't name a file"},
		"http elsewhere": {"sinks: {h: {type: webhook, url: \"http://e.com\", secret: h}}\n", "must be https"},
		"a password":     {"sinks: {h: {type: webhook, url: \"https://a:b@e.com\", secret: h}}\n", "user or password"},
		"a url of slack": {"sinks: {chat: {type: slack, url: \"https://e.com\", secret: h}}\n", "only a webhook has a url"},
		"no recipient":   {"sinks: {m: {type: mail, secret: m, from: a@e.com}}\n", "1 to 50 recipients"},
		"no address":     {"sinks: {m: {type: mail, secret: m, from: a@e.com, to: [\"a b\"]}}\n", "must be an address"},
		"a header more":  {"sinks: {m: {type: mail, secret: m, from: a@e.com, to: [\"b@e.com\\r\\nBcc: c@e.com\"]}}\n", "must be an address"},
		"no window":      {sinks + "subscribe: [{sink: chat, quiet: {windows: [{opens: nightly, for: 9h}]}}]\n", "cron line"},
		"quiet too long": {sinks + "subscribe: [{sink: chat, quiet: {windows: [{opens: \"0 0 * * *\", for: 100h}]}}]\n", "too long"},
		"a sink's name":  {"sinks: {\"a/b\": {type: slack, secret: c}}\n", "can't name a sink"},
		"another kind":   {"sinks: {chat: {type: irc, secret: c}}\n", "type"},
	} {
		t.Run(name, func(t *testing.T) {
			s, faults := notices.Load(nil, fstest.MapFS{notices.File: {Data: []byte(header + c.text)}})
			if s != nil || !strings.Contains(fmt.Sprint(faults), c.want) {
				t.Errorf("%v, want %q", faults, c.want)
			}
			for _, f := range faults {
				if f.Line == 0 || f.Code == "" {
					t.Errorf("without line or class: %+v", f)
				}
			}
			if notices.Parse([]byte(header+c.text)) != nil {
				t.Error("Parse takes it")
			}
		})
	}
	if s, faults := notices.Load(nil, fstest.MapFS{}); s != nil || len(faults) != 0 {
		t.Errorf("without a file: %v, %v", s, faults)
	}
}

// After a day of trouble nothing is left out, threads are told once, and no message is too long.
func TestGather(t *testing.T) {
	var due []notices.Notice
	for i := range 300 {
		due = append(due, notices.Notice{ID: fmt.Sprint(i), Thread: fmt.Sprint("thread-", i%100), Number: i/100 + 1,
			Severity: notices.Warning, Title: fmt.Sprintf("title %d.", i), Lines: []string{strings.Repeat("x", 500)}})
	}
	due[250].Severity = notices.Critical
	messages, seen := 0, ""
	for rest := due; len(rest) > 0; messages++ {
		d, covered := notices.Gather(rest)
		if covered < 1 || len(d.PlainText()) > 20<<10 || len(d.Items) > 20 {
			t.Fatalf("%d notices in %d bytes", covered, len(d.PlainText()))
		}
		seen += d.PlainText()
		rest = rest[covered:]
	}
	t.Logf("%d notices of 100 threads: %d messages", len(due), messages)
	for i := 200; i < 300; i++ {
		if !strings.Contains(seen, fmt.Sprintf("title %d.", i)) {
			t.Errorf("the newest of thread %d is left out", i-200)
		}
	}
	d, covered := notices.Gather([]notices.Notice{due[0], due[100], due[200], due[50], due[250]})
	if covered != 5 || len(d.Items) != 2 || !strings.HasPrefix(d.Subject, "title 250., and 1 more notice") {
		t.Errorf("%d: %+v", covered, d)
	}
	one, covered := notices.Gather([]notices.Notice{{Thread: "t", Title: strings.Repeat("y", 10_000),
		Lines: []string{strings.Repeat("z", 100_000)}}})
	if covered != 1 || len(one.PlainText()) > 20<<10 {
		t.Errorf("one that is too long: %d bytes", len(one.PlainText()))
	}
}

// R54: what others wrote is shown and not obeyed: no mention, link, markup, header or control character.
func TestR54NoticesObeyNobody(t *testing.T) {
	hostile := "<!channel> <@U1> @channel [x](javascript:alert(1)) ![i](https://evil.example/p.png) <script>x</script> `c` \x1b[31m\r\nBcc: a@b\u202e"
	d, _ := notices.Gather([]notices.Notice{{Thread: "t", Title: hostile, Lines: []string{hostile}, Cells: []string{"a"},
		Count: 1}})
	slack, err := d.Slack()
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Text   string
		Mrkdwn *bool
	}
	if err := json.Unmarshal(slack, &s); err != nil || s.Mrkdwn == nil || *s.Mrkdwn {
		t.Errorf("%s (%v)", slack, err)
	}
	for _, obeyed := range []string{"<!", "<@", "@channel", "](", "<script", "`", "https://evil", "\x1b", "\u202e"} {
		if strings.Contains(s.Text, obeyed) {
			t.Errorf("Slack would obey %q in %s", obeyed, s.Text)
		}
	}
	for _, text := range []string{d.Subject, d.PlainText()} {
		if strings.ContainsAny(text, "\x1b\r\u202e") || strings.Contains(d.Subject, "\n") {
			t.Errorf("%q", text)
		}
	}
	teams, err := d.Teams()
	if err != nil || strings.Contains(string(teams), `"TextBlock"`) {
		t.Errorf("%s (%v)", teams, err)
	}
}
