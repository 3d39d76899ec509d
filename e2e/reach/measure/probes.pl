# Tries connections from one network namespace, many at a time. Reads "NUMBER PROTOCOL ADDRESS PORT" lines, writes
# "NUMBER connected|answered|refused|silent|error TEXT" lines. Needs perl-base only, which Debian's images have.
use strict; use warnings; use Socket qw(:all); use Fcntl; use Errno qw(EINPROGRESS ECONNREFUSED EAGAIN);
my $patience = shift; my @lines = <STDIN>; $| = 1;
# a name server answers nothing but questions: who serves the root?
my $dns = "\x57\x54\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01";
while (my @some = splice(@lines, 0, 400)) {
    my %open;
    for (@some) {
        my ($number, $protocol, $address, $port) = split; my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
        my $is_tcp = $protocol eq "TCP";
        socket(my $socket, $family, $is_tcp ? SOCK_STREAM : SOCK_DGRAM, 0) or die "socket: $!";
        fcntl($socket, F_SETFL, O_NONBLOCK);
        my $binary = inet_pton($family, $address);
        my $to = $family == AF_INET6 ? pack_sockaddr_in6($port, $binary) : pack_sockaddr_in($port, $binary);
        if (connect($socket, $to)) { send($socket, $port == 53 ? $dns : "windtunnel\n", 0) unless $is_tcp; }
        elsif ($! != EINPROGRESS) { print "$number ", $! == ECONNREFUSED ? "refused" : "error $!", "\n"; next; }
        $open{fileno $socket} = [$number, $socket, $is_tcp];
    }
    my ($left, $ready) = ($patience);
    while (%open and $left > 0) {
        my ($read, $write) = ("", "");
        vec($open{$_}[2] ? $write : $read, $_, 1) = 1 for keys %open;
        ($ready, $left) = select($read, $write, undef, $left);  # Linux tells what is left of the time
        next unless $ready > 0;
        for my $file (keys %open) {
            my ($number, $socket, $is_tcp) = @{$open{$file}};
            next unless $is_tcp ? vec($write, $file, 1) : vec($read, $file, 1);
            my $error = 0; my $said = "connected";
            if ($is_tcp) { $error = unpack("i", getsockopt($socket, SOL_SOCKET, SO_ERROR)); }
            elsif (defined recv($socket, my $answer, 512, 0)) { $said = "answered"; } else { $error = $! + 0; }
            $! = $error;
            $said = $error == ECONNREFUSED ? "refused" : "error $!" if $error;
            print "$number $said\n"; close $socket; delete $open{$file};
        }
    }
    print "$_->[0] silent\n" for values %open;
}
