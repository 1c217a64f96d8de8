# Read by Spark's start scripts. Without it Spark would look for an address that other machines can reach.
export SPARK_LOCAL_IP=${NODE_HOST}
