package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// start serves on free loopback ports and returns their addresses by protocol,
// a function that sends SIGTERM's context end, and one that waits for the end.
func start(t *testing.T, grace time.Duration) (addresses map[string]string, terminate func(), ended <-chan error) {
	t.Helper()
	addresses = map[string]string{}
	told := make(chan [2]string, 3)
	s := &server{
		pod: "web-1", grace: grace,
		httpAddress: "127.0.0.1:0", tcpAddress: "127.0.0.1:0", udpAddress: "127.0.0.1:0",
		listening: func(network, address string) { told <- [2]string{network, address} },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		for err := range done {
			if err != nil {
				t.Errorf("the server ended with: %v", err)
			}
		}
	})
	for range 3 {
		a := <-told
		addresses[a[0]] = a[1]
	}
	return addresses, cancel, done
}

func TestEachProtocolNamesThePodAndTheClient(t *testing.T) {
	addresses, _, _ := start(t, 0)
	for _, network := range []string{"http", "tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			var out bytes.Buffer
			if err := ask(t.Context(), &out, []string{network, addresses[network]}); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(`^pod=web-1 client=127\.0\.0\.1:\d+ server=%s\n$`, regexp.QuoteMeta(addresses[network]))
			if !regexp.MustCompile(want).MatchString(out.String()) {
				t.Errorf("got %q, want a match of %s", out.String(), want)
			}
		})
	}
}

func TestTCPSendsBackEachLine(t *testing.T) {
	addresses, _, _ := start(t, 0)
	conn, err := net.Dial("tcp", addresses["tcp"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	lines.Scan() // the greeting
	for _, word := range []string{"one", "two"} {
		fmt.Fprintln(conn, word)
		if !lines.Scan() || lines.Text() != "web-1: "+word {
			t.Errorf("got %q, want %q", lines.Text(), "web-1: "+word)
		}
	}
}

func TestAfterSIGTERMItServesForTheGraceAndSaysThatItLeaves(t *testing.T) {
	addresses, terminate, ended := start(t, 200*time.Millisecond)
	terminate()
	for status := 0; status != http.StatusServiceUnavailable; {
		res, err := http.Get("http://" + addresses["http"] + "/readyz")
		if err != nil {
			t.Fatalf("the server was gone before it said that it leaves: %v", err)
		}
		res.Body.Close()
		status = res.StatusCode
	}
	var out bytes.Buffer
	if err := ask(t.Context(), &out, []string{"tcp", addresses["tcp"]}); err != nil {
		t.Errorf("within the grace: %v", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server did not end")
	}
}

func TestWrongCallsGetAClearSentence(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"a word that is no flag", []string{"serve"}, `unexpected argument "serve"`},
		{"a question without an address", []string{"ask", "tcp"}, "expected two arguments"},
		{"an unknown protocol", []string{"ask", "sctp", "127.0.0.1:1"}, `unknown protocol "sctp"; expected http, tcp or udp`},
		{"a port that is taken", []string{"-http=", "-udp=", "-tcp=" + taken.Addr().String()}, "listen on tcp " + taken.Addr().String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := run(tt.args)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}
