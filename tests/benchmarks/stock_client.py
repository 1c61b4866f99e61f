"""stock_client.py PORT NUMBER COUNT: an application that logs as fast as a stock SocketHandler lets it."""

import logging
import logging.handlers
import sys
import time

port, client, count = (int(argument) for argument in sys.argv[1:])
logging.getLogger().addHandler(logging.handlers.SocketHandler("127.0.0.1", port))
logging.getLogger().setLevel(logging.DEBUG)
orders, web = logging.getLogger("shop.orders"), logging.getLogger("shop.web")

print("ready", flush=True)
sys.stdin.readline()
used = time.process_time()
for number in range(count):
    if number % 2:
        orders.info("order %d of customer %d accepted from basket %x", number, client, number)
    else:
        web.debug("GET /orders/%d by %d took %.3f s", number, client, number / 7)
print(time.process_time() - used, flush=True)
sys.stdin.read()
