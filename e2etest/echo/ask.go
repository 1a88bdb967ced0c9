package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// ask puts one question to a server and writes the first line of its answer.
func ask(ctx context.Context, out io.Writer, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("ask: expected two arguments, http|tcp|udp and HOST:PORT, got %d", len(args))
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	network, address := args[0], args[1]
	switch network {
	case "http":
		return askHTTP(ctx, out, address)
	case "tcp", "udp":
		return askSocket(ctx, out, network, address)
	default:
		return fmt.Errorf("ask: unknown protocol %q; expected http, tcp or udp", network)
	}
}

func askHTTP(ctx context.Context, out io.Writer, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return fmt.Errorf("ask http %s: %w", address, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask http %s: %w", address, err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(out, io.LimitReader(res.Body, maxLine)); err != nil {
		return fmt.Errorf("ask http %s: read the answer: %w", address, err)
	}
	return nil
}

func askSocket(ctx context.Context, out io.Writer, network, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return fmt.Errorf("ask %s %s: %w", network, address, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return fmt.Errorf("ask %s %s: %w", network, address, err)
		}
	}
	if network == "udp" {
		if _, err := io.WriteString(conn, "hello"); err != nil {
			return fmt.Errorf("ask udp %s: %w", address, err)
		}
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("ask %s %s: read the answer: %w", network, address, err)
	}
	_, err = fmt.Fprintln(out, strings.TrimSpace(line))
	return err
}
