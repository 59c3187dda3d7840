package reach

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

func mustParse(t *testing.T, entries ...string) List {
	t.Helper()
	l, err := Parse(entries)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// R53: without a list only public addresses are dialled, in whatever form another is written.
func TestR53OnlyPublicByDefault(t *testing.T) {
	l := mustParse(t, Default)
	for _, addr := range []string{"93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101",
		"2002:101:101::1"} {
		if err := l.Check("h", netip.MustParseAddr(addr)); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{
		"127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", "0.1.2.3", "::",
		"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fdff::1",
		"169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254",
		"100.100.100.200", "168.63.129.16", "192.0.0.192",
		"224.0.0.1", "239.1.1.1", "ff02::1", "255.255.255.255", "240.0.0.1",
		"192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1", "3fff::1",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1",
		"2001:0:4136:e378:8000:63bf:3fff:fdd2", "fec0::1", "100::1", "5f00::1",
	} {
		if err := l.Check("h", netip.MustParseAddr(addr)); !errors.Is(err, ErrOutside) {
			t.Errorf("%s may be dialled: %v", addr, err)
		}
	}
	if err := (List{}).Check("h", netip.MustParseAddr("1.1.1.1")); !errors.Is(err, ErrOutside) {
		t.Errorf("an empty list allows %v", err)
	}
}

// R53: a list opens what it says and nothing near it.
func TestR53Lists(t *testing.T) {
	for _, c := range []struct {
		list, host, addr string
		may              bool
	}{
		{"private", "h", "10.1.2.3", true},
		{"private", "h", "fd12::1", true},
		{"private", "h", "1.1.1.1", false},
		{"private", "h", "169.254.169.254", false},
		{"private", "h", "fd00:ec2::254", false},
		{"private", "h", "100.100.100.200", false},
		{"loopback", "h", "127.0.0.1", true},
		{"loopback", "h", "::ffff:127.0.0.1", true},
		{"loopback", "h", "10.0.0.1", false},
		{"10.1.0.0/16", "h", "10.1.2.3", true},
		{"10.1.0.0/16", "h", "64:ff9b::a01:203", true},
		{"10.1.0.0/16", "h", "10.2.2.3", false},
		{"127.0.0.1", "h", "127.0.0.1", true},
		{"127.0.0.1", "h", "127.0.0.2", false},
		{"[::1]", "h", "::1", true},
		{"::ffff:10.0.0.1", "h", "10.0.0.1", true},
		{"169.254.169.254", "h", "169.254.169.254", true},
		{"Prometheus.Internal", "prometheus.internal.", "10.1.2.3", true},
		{"prometheus.internal", "prometheus.internal", "1.1.1.1", true},
		{"prometheus.internal", "prometheus.internal", "169.254.169.254", false},
		{"prometheus.internal", "prometheus.internal", "127.0.0.1", false},
		{"prometheus.internal", "other.internal", "10.1.2.3", false},
		{"localhost", "localhost", "127.0.0.1", true},
		{"localhost", "other", "127.0.0.1", false},
		{"0.0.0.0/0", "h", "::1", false},
	} {
		if err := mustParse(t, c.list).Check(c.host, netip.MustParseAddr(c.addr)); (err == nil) != c.may {
			t.Errorf("with %s, %s at %s: %v", c.list, c.host, c.addr, err)
		}
	}
	for _, wrong := range []string{"", " ", "10.1.2", "10.1.0.0/33", "host:9090", "http://host", "fe80::1%eth0", "*",
		"::ffff:10.0.0.0/104", "64:ff9b::/96", "a b"} {
		if l, err := Parse([]string{wrong}); err == nil {
			t.Errorf("%q is read as %+v", wrong, l)
		}
	}
}

// R53: the address that is dialled is checked, whatever name led there, and nothing arrives where none may.
func TestR53DialledAddressIsChecked(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, "http://localhost:"+r.URL.Query().Get("port")+"/secret", http.StatusFound)
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, c := range []struct {
		list, host string
		may        bool
	}{
		{"public", "127.0.0.1", false}, {"public", "localhost", false}, {"public", "[::ffff:127.0.0.1]", false},
		{"public", "0.0.0.0", false}, {"private", "localhost", false}, {"localhost.example", "localhost", false},
		{"127.0.0.1", "127.0.0.1", true}, {"127.0.0.1", "[::ffff:127.0.0.1]", true}, {"localhost", "localhost", true},
	} {
		asked.Store(0)
		client := mustParse(t, c.list).Client(Options{})
		resp, err := client.Get("http://" + c.host + ":" + port + "/?port=" + port)
		if err == nil {
			resp.Body.Close()
		}
		switch {
		case !c.may && (!errors.Is(err, ErrOutside) || asked.Load() != 0):
			t.Errorf("with %s, %s: %v, asked %d times", c.list, c.host, err, asked.Load())
		// No redirect is followed.
		case c.may && (err != nil || resp.StatusCode != http.StatusFound || asked.Load() != 1):
			t.Errorf("with %s, %s: %v, asked %d times", c.list, c.host, err, asked.Load())
		}
		client.CloseIdleConnections()
	}
}

// R53: a proxy resolves names by itself, so that through one only listed hosts are asked.
func TestR53Proxy(t *testing.T) {
	var asked atomic.Pointer[string]
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		host := r.Host
		asked.Store(&host)
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := mustParse(t, "public", "prometheus.internal").Client(Options{
		Proxy: func(*http.Request) (*url.URL, error) { return at, nil }})
	defer client.CloseIdleConnections()
	for host, may := range map[string]bool{"prometheus.internal": true, "1.1.1.1": true,
		"metadata.google.internal": false, "example.com": false,
		"169.254.169.254": false, "127.0.0.1": false, "[::1]": false, "2852039166": false} {
		asked.Store(nil)
		resp, err := client.Post("http://"+host+"/", "text/plain", strings.NewReader("x"))
		if err == nil {
			resp.Body.Close()
		}
		if reached := asked.Load() != nil; reached != may || !may && !errors.Is(err, ErrOutside) {
			t.Errorf("%s: %v, reached %v", host, err, reached)
		}
	}
	broken := mustParse(t, "public").Client(Options{Proxy: func(*http.Request) (*url.URL, error) {
		return nil, errors.New("invalid proxy address http://u:s3cret@h")
	}})
	if _, err := broken.Get("http://1.1.1.1/"); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a broken proxy: %v", err)
	}
}
