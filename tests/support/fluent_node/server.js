// A forward server of npm's @fluent-org/logger: node server.js OUT OPTIONS, with its options as JSON.
// It adds a line of JSON for each entry to OUT.
const fs = require("fs");
const { FluentServer } = require("@fluent-org/logger");
const [out, options] = [process.argv[2], JSON.parse(process.argv[3])];
for (const name of ["key", "cert"])
  if (options.tlsOptions) options.tlsOptions[name] = fs.readFileSync(options.tlsOptions[name]);
const file = fs.openSync(out, "a");
const server = new FluentServer(options);
// It acknowledges entries just before it hands them on: a kill in between would lose what it has acknowledged.
const map = 0x81; // with one key: an ack
server.server.prependListener(options.tlsOptions ? "secureConnection" : "connection", (socket) => {
  const write = socket.write.bind(socket);
  socket.write = (data) => (data[0] === map ? setImmediate(write, data) : write(data));
});
server.on("entry", (tag, time, fields) => {
  fs.writeSync(file, JSON.stringify({ tag, seconds: time.epoch, nanoseconds: time.nano, fields }) + "\n");
});
server.listen();
