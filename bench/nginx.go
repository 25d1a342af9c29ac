package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// nginx is a server of the folder of what was uploaded.
type nginx struct {
	cmd     *exec.Cmd
	address string
}

// serveNginx returns nil where there is no nginx.
func (f *fileBench) serveNginx(ctx context.Context) (*nginx, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		return nil, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &nginx{address: l.Addr().String()}
	dir := filepath.Join(filepath.Dir(f.src), "nginx")
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // whose the folder is
	}
	text := fmt.Sprintf(`%s daemon off; worker_processes auto; pid %[2]s/pid; error_log %[2]s/error.log;
		events { worker_connections 512; }
		http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy;
		fastcgi_temp_path %[2]s/fastcgi; uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;
		server { listen %[3]s; root %[4]s; } }`, user, dir, n.address, f.src)
	config := filepath.Join(dir, "nginx.conf")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(config, []byte(text), 0o600), l.Close()); err != nil {
		return nil, err
	}
	n.cmd = exec.CommandContext(ctx, path, "-c", config, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := dial(n.address)
		if err == nil {
			c.close()
			return n, nil
		}
		if time.Now().After(deadline) {
			n.stop()
			return nil, fmt.Errorf("nginx does not serve: %w", err)
		}
	}
}

func (n *nginx) stop() {
	_ = n.cmd.Process.Signal(os.Interrupt)
	_ = n.cmd.Wait()
}
